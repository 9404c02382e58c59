"""`codexd daemons`, and the daemons asked how they are."""

from __future__ import annotations

import json
import os
import socket
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner

from codexd.cli.daemons import format_age, format_line, format_table
from codexd.cli.main import cli
from codexd.cli.terminal import cells
from codexd.client import roll
from codexd.client.roll import SeenDaemon, ask_each
from codexd.config import resolve
from codexd.daemons import listing
from codexd.platform import lock
from tests.support.codex import short_directory

NOW = datetime(2026, 1, 2, 12, tzinfo=UTC)
SEEN = SeenDaemon(
    pid=4711,
    node_id="mini-main",
    state="not ready",
    started_at="2026-01-01T09:30:00.000Z",
    repo_root="/home/me/a",
    state_root_dir="/home/me/a/state",
    state_dir="/home/me/a/state/codexd",
    logs_dir="/var/log/codexd",
    hub_socket_path="/home/me/a/state/codexd/run/codexd.sock",
    codex_home=None,
)


def table(seen: SeenDaemon, width: int = 80) -> list[str]:
    return list(format_table([seen], width, NOW, {"HOME": "/home/me"}))


def test_a_table_for_people() -> None:
    assert table(SEEN) == [
        "PID   UP     STATE      NODE       REPOSITORY",
        "4711  1d 2h  not ready  mini-main  ~/a",
        "        --state-dir ~/a/state",
        "        CODEX_HOME -",
    ]


@pytest.mark.parametrize("width", [40, 80])
def test_nothing_is_wider_than_the_terminal_and_nothing_is_lost(width: int) -> None:
    long = "/" + "x" * 250
    wide = msgspec.structs.replace(
        SEEN, node_id="n" * 90, repo_root=long, state_root_dir=long, codex_home=long
    )
    lines = table(wide, width)
    assert max(map(len, lines)) <= width
    assert "".join(line.strip() for line in lines).count("x") == 750
    assert "".join(line.strip() for line in lines).count("n" * 90) == 1


def test_wide_characters_take_two_columns() -> None:
    wide = msgspec.structs.replace(SEEN, node_id="节点", repo_root="/" + "仓" * 60)
    head, row, *rest = table(wide)
    assert cells(head[: head.index("REPOSITORY")]) == cells(row[: row.index("/仓")])
    assert max(map(cells, [head, row, *rest])) <= 80
    assert "".join([row, *rest]).count("仓") == 60


def test_only_what_is_below_a_home_is_shortened() -> None:
    at_home = msgspec.structs.replace(SEEN, repo_root="/home/me", codex_home="/home/me2")
    lines = table(at_home)
    assert lines[1].endswith("  ~")
    assert lines[3].endswith(" /home/me2")
    for home in ("", "/"):
        assert "/home/me" in next(
            line for line in format_table([SEEN], 80, NOW, {"HOME": home}) if "4711" in line
        )


def test_a_line_for_programs() -> None:
    odd = msgspec.structs.replace(SEEN, repo_root="/a\tb\n\x1b[31m", codex_home="/h")
    assert format_line(SEEN).split("\t") == [
        "4711",
        "mini-main",
        "2026-01-01T09:30:00.000Z",
        "not ready",
        "/home/me/a",
        "/home/me/a/state",
        "-",
    ]
    fields = format_line(odd).split("\t")
    assert fields[4:] == ["/a\\tb\\n\\x1b[31m", "/home/me/a/state", "/h"]
    assert "\x1b" not in "\n".join(table(odd))


@pytest.mark.parametrize(
    ("since", "age"),
    [
        ("2026-01-02T11:59:18.000Z", "42s"),
        ("2026-01-02T11:57:18.000Z", "2m"),
        ("2026-01-02T11:59:01.000Z", "59s"),
        ("2026-01-02T11:59:00.000Z", "1m"),
        ("2026-01-02T11:00:00.000Z", "1h 0m"),
        ("2026-01-01T12:00:00.000Z", "1d 0h"),
        ("2026-01-02T09:57:00.000Z", "2h 3m"),
        ("2026-01-02T13:00:00.000Z", "0s"),
        ("2026-01-02", "?"),
        ("", "?"),
    ],
)
def test_how_long_it_has_run(since: str, age: str) -> None:
    assert format_age(since, NOW) == age


@pytest.fixture
def environ(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "xdg"))
    monkeypatch.setenv("HOME", str(tmp_path))
    return {"HOME": str(tmp_path), "XDG_STATE_HOME": str(tmp_path / "xdg")}


@pytest.fixture
def mute(environ: dict[str, str]) -> Iterator[listing.ListedDaemon]:
    """A daemon whose hub takes connections and says nothing."""
    with short_directory() as root:
        config = resolve({"repo_root": str(root), "node_id": "mute"}, {}, cwd="/")
        os.makedirs(config.runtime.runtime_dir, mode=0o700)
        lock.acquire(config.runtime.lock_path)
        entry = listing.make_entry(config, None)
        assert entry is not None
        listing.enter(entry, environ)
        with socket.socket(socket.AF_UNIX) as serving:
            serving.bind(config.runtime.hub_socket_path)
            serving.listen()
            yield entry
        lock.release(config.runtime.lock_path)


def invoke(*words: str) -> tuple[int, str]:
    result = CliRunner().invoke(cli, ["daemons", *words])
    return result.exit_code, result.output


def test_who_says_nothing_is_listed_all_the_same(
    mute: listing.ListedDaemon, environ: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("codexd.client.http._ASK_TIMEOUT_S", 0.05)
    (Path(listing.directory(environ)) / "odd.json").write_text("{")
    result = CliRunner().invoke(cli, ["daemons"])
    code, out = result.exit_code, result.stdout
    assert code == 0
    assert "odd.json, of the list of daemons, tells of no daemon" in result.stderr
    fields = out.rstrip("\n").split("\t")
    assert fields[:2] == [str(os.getpid()), "mute"]
    assert fields[3:] == ["no answer", mute.repo_root, mute.state_root, "-"]
    result = CliRunner().invoke(cli, ["daemons", "--json"])
    code, out = result.exit_code, result.stdout
    (told,) = json.loads(out)["daemons"]
    assert (code, told["state"], told["stateDir"]) == (0, "no answer", mute.state_dir)
    assert told["stateRootDir"] == mute.state_root


@pytest.mark.usefixtures("environ")
def test_none_is_said_in_one_line() -> None:
    assert invoke() == (0, "No codexd runs: start one with `codexd start`.\n")
    assert json.loads(invoke("--json")[1]) == {"daemons": []}


def test_a_list_that_cannot_be_read_is_not_an_empty_one(environ: dict[str, str]) -> None:
    place = Path(listing.directory(environ))
    place.parent.mkdir(parents=True)
    place.write_text("")
    result = CliRunner().invoke(cli, ["daemons"])
    assert result.exit_code == 1
    assert "cannot be read: Not a directory" in str(result.exception or "") + result.output


def test_a_look_that_hangs_is_not_waited_for(
    mute: listing.ListedDaemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    release = threading.Event()

    def hang(*_: object) -> None:
        release.wait(30)
        raise OSError("too many open files")

    monkeypatch.setattr(roll, "look", hang)
    (seen,) = ask_each([mute], patience_s=0.05)
    assert seen.state == "no answer"
    release.set()
