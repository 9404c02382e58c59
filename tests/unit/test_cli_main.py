"""The command line as a user types it."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from codexd.cli.main import COMMANDS, cli, hoist_command, main
from codexd.cli.options import BadValue
from codexd.cli.streams import show_what_has_no_letters
from codexd.settings import SETTINGS

VECTORS = json.loads(
    (Path(__file__).parent.parent / "support" / "config_vectors.json").read_text("utf-8")
)


def run(*args: str, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("BAA_")}
    command = [sys.executable, "-m", "codexd", *args]
    return subprocess.run(command, env={**clean, **(env or {})}, capture_output=True, text=True)


@pytest.mark.parametrize("vector", VECTORS["bad"])
def test_a_bad_value_ends_with_one_line_that_names_it(
    vector: dict[str, Any],
) -> None:
    result = run("config", *vector["argv"], env=vector["env"])
    wrong = [*vector["env"].values(), vector["argv"][-1]][0]
    assert result.returncode == 2
    assert result.stdout == ""
    assert result.stderr.count("\n") == 1
    assert wrong in result.stderr


@pytest.mark.parametrize(
    "args",
    [
        ["config", "--node-id"],
        ["config", "--node-id", "--json"],
        ["config", "extra"],
        ["no-such-command"],
        ["config", "--log-max-bytes", "-1"],
        ["config", "--health-misses", "0"],
        ["config", "--hub-default-socket", "perhaps"],
        ["config", "--restart", "sometimes"],
        ["stop", "--timeout", "nan"],
        ["restart", "--timeout", "1e400"],
        ["restart", "--timeout=-1"],
        ["ctl", "no-such-command"],
        ["ctl", "--timeout", "5", "no-such-command"],
    ],
)
def test_other_mistakes_are_one_line_too(
    args: list[str], capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(args)
    assert ended.value.code == 2
    err = capfd.readouterr().err
    assert err.startswith("codexd: ")
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("args", "hoisted"),
    [
        ([], ["start"]),
        (["--run-once"], ["start", "--run-once"]),
        (["--json", "status"], ["status", "--json"]),
        (["--node-id", "status", "config"], ["config", "--node-id", "status"]),
        (["--state-dir", "x", "ctl", "--json", "x"], ["ctl", "--state-dir", "x", "--json", "x"]),
        (["--version"], ["--version"]),
        (["--version", "1.2"], ["start", "--version", "1.2"]),
        (["help"], ["--help"]),
        (["help", "events"], ["events", "--help"]),
        (["help", "settings"], ["help", "settings"]),
        (["help", "--json", "events"], ["events", "--help"]),
        (["help", "--man"], ["help", "--man"]),
        (["help", "--help"], ["help", "--help"]),
        (["--json", "help"], ["--help"]),
        (["config", "help"], ["config", "--help"]),
        (["--json", "status", "help"], ["status", "--help"]),
        (["ctl", "help"], ["ctl", "help"]),
        (["--node-id", "help"], ["start", "--node-id", "help"]),
        (["--version", "status"], ["--version"]),
        (["--json", "--version"], ["--version"]),
        (["--version", "--json", "status"], ["--version"]),
        (["--version", "1.2", "status"], ["status", "--version", "1.2"]),
        (["status", "--version", "1.2"], ["status", "--version", "1.2"]),
        (["--config", "a=b", "app-server"], ["app-server", "--config", "a=b"]),
    ],
)
def test_the_command_may_stand_anywhere(args: list[str], hoisted: list[str]) -> None:
    assert hoist_command(args) == hoisted


def test_an_unknown_command_is_named() -> None:
    with pytest.raises(BadValue, match="bogus"):
        hoist_command(["bogus"])


def test_run_once_is_taken_and_counts_for_nothing(tmp_path: Path) -> None:
    for name in ("config", "status"):
        words = [name, "--repo-root", str(tmp_path)]
        plain, once = (CliRunner().invoke(cli, [*words, *more]) for more in ([], ["--run-once"]))
        assert (once.exit_code, once.output) == (0, plain.output)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full (Linux)")
@pytest.mark.parametrize("args", [["config"], ["status", "--json"], ["--help"], ["events", "help"]])
def test_an_output_that_takes_nothing_is_one_line(args: list[str], tmp_path: Path) -> None:
    command = [sys.executable, "-m", "codexd", *args]
    with open("/dev/full", "w") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, cwd=tmp_path)
    assert done.returncode == 1
    assert done.stderr == b"codexd: The output cannot be written: No space left on device.\n"


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full (Linux)")
def test_what_is_told_beside_the_output_may_be_lost(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "codexd", "sessions", "--state-dir", str(tmp_path)]
    with open("/dev/full", "w") as full:
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=full, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (0, b"")


def test_an_output_that_is_closed_harms_nobody(tmp_path: Path) -> None:
    for args, code in (("config", 0), ("events", 0), ("logs", 0), ("run -", 2)):
        shell = f'exec "$0" -m codexd {args} <&- >&- 2>&-'
        done = subprocess.run(["sh", "-c", shell, sys.executable], cwd=tmp_path)
        assert done.returncode == code


def test_a_directory_that_is_gone_is_told_as_that(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    with pytest.raises(SystemExit) as ended:
        main(["run", "hi", "--state-dir", str(tmp_path)])
    assert ended.value.code == 1
    told = capfd.readouterr().err
    assert told == "codexd: The working directory is gone: cd to one that exists.\n"


def test_letters_that_the_encoding_has_not_are_spelt_out() -> None:
    stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    show_what_has_no_letters(stream)
    stream.write("a表")
    stream.flush()
    assert stream.buffer.getvalue() == b"a\\u8868"


def _without_spaces(text: str) -> str:
    # Lines are broken at hyphens too.
    return "".join(text.split())


def test_the_help_on_settings_tells_every_variable_and_default() -> None:
    result = CliRunner().invoke(cli, ["help", "settings"])
    assert result.exit_code == 0
    text = _without_spaces(result.output)
    for setting in SETTINGS:
        assert setting.flag in text
        told = f"[{', '.join(setting.env)}; default: {setting.default_text}]"
        assert _without_spaces(told) in text


def test_the_help_of_all_lists_every_command() -> None:
    result = CliRunner().invoke(cli, ["--help"])
    assert all(f"  {name}" in result.output for name in COMMANDS)
