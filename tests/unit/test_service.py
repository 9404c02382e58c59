"""A service's file: sealed, read back, and which codexd it runs."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import codexd
from codexd import __version__
from codexd.config import resolve
from codexd.rendering import render_plist, render_systemd
from codexd.service.choose import default_kind, installed_program
from codexd.service.file import Kind, ServiceFile
from codexd.service.hands import Hands, ServiceError
from codexd.service.install import install, uninstall
from codexd.service.launchd import Launchd
from codexd.service.seal import Sealed, read_seal, seal
from codexd.service.status import service_status
from codexd.service.systemd import Systemd


@pytest.mark.parametrize("text", ["", "a", "a\nb\n", "é\udcff\n\n", "x" * 70_000])
def test_a_seal_is_that_of_cksum(text: str) -> None:
    sealed = seal(text, "# ", "")
    body, last = sealed.rstrip(b"\n").rsplit(b"\n", 1)
    told = subprocess.run(["cksum"], input=body + b"\n", capture_output=True, check=True).stdout
    assert last.split()[2] == b"-".join(told.split())
    assert read_seal(sealed) == Sealed(is_edited=False, version=__version__)


def test_what_was_edited_is_seen() -> None:
    sealed = seal("a\nb\n", "<!-- ", " -->")
    assert sealed.endswith(b" -->\n")
    for edited in (sealed.replace(b"a", b"c"), sealed + b"more\n", b"a\nb\n", b"", b"\n"):
        assert read_seal(edited).is_edited
    # Written before seals told who wrote them.
    old = sealed.replace(f" codexd {__version__}".encode(), b"")
    assert read_seal(old) == Sealed(is_edited=False, version=None)


@pytest.mark.parametrize("kind", ["launchd", "systemd"])
def test_what_is_rendered_is_read_back(kind: Kind, tmp_path: Path) -> None:
    flags = {"repo_root": str(tmp_path), "node_id": 'a "b" \\n %h\tc'}
    config = resolve(flags, {}, cwd="/")
    kept = {"CODEX_HOME": "/a b/%x"}
    render = render_plist if kind == "launchd" else render_systemd
    text = render(config, home=str(tmp_path), program=["/o p/100%/codexd"], kept=kept)
    sealed = seal(text, "<!-- ", " -->") if kind == "launchd" else seal(text, "# ", "")
    file = ServiceFile(kind, sealed.decode(), str(tmp_path))
    assert file.config == config
    assert file.environ["CODEX_HOME"] == "/a b/%x"
    assert file.environ["HOME"] == str(tmp_path) or kind == "launchd"
    assert file.program == "/o p/100%/codexd"
    assert (file.error_log is None) == (kind == "systemd")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "no xml",
        "<plist><dict></dict></plist>",
        "<plist><array/></plist>",
        "<plist><dict><key>ProgramArguments</key><array><integer>1</integer></array>"
        "<key>EnvironmentVariables</key><dict/><key>StandardErrorPath</key><string/></dict></plist>",
    ],
)
def test_a_property_list_of_somebody_else_is_told(text: str) -> None:
    with pytest.raises(ServiceError, match="none that codexd has written"):
        ServiceFile("launchd", text, "/home/me")


def test_a_unit_whose_settings_cannot_be_is_told() -> None:
    with pytest.raises(ServiceError, match="sideways"):
        ServiceFile("systemd", 'Environment="BAA_CODEXD_MODE=sideways"\n', "/home/me")


def test_a_file_is_replaced_in_one_step_or_not_at_all(tmp_path: Path) -> None:
    said: list[str] = []
    hands, path = Hands(said.append, is_dry=False), tmp_path / "a/unit"
    hands.write(str(path), b"one\n")
    assert (path.read_text(), path.stat().st_mode & 0o777) == ("one\n", 0o600)
    with pytest.raises(ServiceError, match="false does not like it"):
        hands.write(str(path), b"two\n", ["false"])
    assert [entry.name for entry in path.parent.iterdir()] == ["unit"]
    assert path.read_text() == "one\n"
    with pytest.raises(ServiceError, match="Cannot make"):
        hands.write(str(path / "below"), b"x")
    # Who keeps such files elsewhere links the directory.
    (tmp_path / "linked").symlink_to("a")
    hands.write(str(tmp_path / "linked/unit"), b"three\n", ["true"])
    assert path.read_text() == "three\n"
    assert [entry.name for entry in path.parent.iterdir()] == ["unit"]
    said.pop()
    assert hands.run("no-such-command") == 127
    assert said == [f"wrote {path}", "no-such-command cannot be run: No such file or directory"]


class Gone(Launchd):
    """An agent that launchd does not know."""

    def is_loaded(self) -> bool:
        return False


def test_a_token_that_would_be_refused_is_told_before_anything_is_changed(tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("everybody knows this one")
    token.chmod(0o644)
    flags = {
        "repo_root": str(tmp_path),
        "hub_listen": "127.0.0.1:0",
        "hub_token_file": str(token),
        "server_strategy": "external",
    }
    text = render_plist(
        resolve(flags, {}, cwd="/"), home=str(tmp_path), program=["/bin/sh"], kept={}
    )
    before, said = sorted(tmp_path.rglob("*")), list[str]()
    manager, hands = Gone(str(tmp_path), "org.x"), Hands(said.append, is_dry=False)
    with pytest.raises(ServiceError, match=r"by others.* Nothing was changed"):
        install(manager, text, home=str(tmp_path), hands=hands, warn=said.append, force=False)
    assert (sorted(tmp_path.rglob("*")), said) == (before, [])


def test_a_program_that_is_not_there_is_told_before_anything_is_changed(tmp_path: Path) -> None:
    config = resolve({"repo_root": str(tmp_path), "server_strategy": "external"}, {}, cwd="/")
    manager, hands = Gone(str(tmp_path), "org.x"), Hands(print, is_dry=False)
    for program in ("/no/such", "/usr", "/etc/passwd"):
        text = render_plist(config, home=str(tmp_path), program=[program], kept={})
        with pytest.raises(ServiceError, match=f"^{program}, which .* Nothing was changed"):
            install(manager, text, home=str(tmp_path), hands=hands, warn=print, force=False)
    assert list(tmp_path.iterdir()) == []


def test_a_service_that_is_moved_to_another_directory_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("codexd.service.install.find_obstacle", lambda *_about: None)
    manager, warned = Gone(str(tmp_path), "org.x"), list[str]()
    hands = Hands(lambda _line: None, is_dry=True)
    path = Path(manager.path)
    path.parent.mkdir(parents=True)
    for repo in ("one", "two", "two"):
        config = resolve({"repo_root": str(tmp_path / repo)}, {}, cwd="/")
        text = render_plist(config, home=str(tmp_path), program=["/bin/sh"], kept={})
        install(manager, text, home=str(tmp_path), hands=hands, warn=warned.append, force=False)
        path.write_bytes(seal(text, "<!-- ", " -->"))
    (told,) = warned
    assert f"has served {tmp_path}/one/state/codexd so far" in told
    assert f"serves {tmp_path}/two/state/codexd" in told


def test_what_was_never_installed_is_not_said_to_be_gone_now(tmp_path: Path) -> None:
    said: list[str] = []
    uninstall(Gone(str(tmp_path), "org.x"), Hands(said.append, is_dry=False))
    assert said == ["org.x is not installed"]


def test_a_unit_that_was_removed_by_hand_still_runs_and_is_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    manager = Systemd(str(tmp_path), {})
    monkeypatch.setattr(manager, "pid", lambda: 7)
    status = service_status(manager, str(tmp_path))
    assert (status.installed, "is gone" in (status.reason or "")) == (False, True)
    wants = tmp_path / ".config/systemd/user/default.target.wants/codexd.service"
    wants.parent.mkdir(parents=True)
    wants.symlink_to("../codexd.service")
    uninstall(manager, Hands(said.append, is_dry=True))
    assert said == [
        "would run: systemctl --user stop codexd.service",
        f"would run: rm -f {wants}",
        "would run: systemctl --user daemon-reload",
    ]


def test_what_was_edited_is_kept_also_where_it_is_removed(tmp_path: Path) -> None:
    said: list[str] = []
    manager, hands = Gone(str(tmp_path), "org.x"), Hands(said.append, is_dry=False)
    path = Path(manager.path)
    path.parent.mkdir(parents=True)
    path.write_text("mine\n")
    uninstall(manager, hands)
    (copy,) = path.parent.iterdir()
    assert copy.read_text() == "mine\n"
    assert copy.name.startswith("org.x.plist.edited-")
    assert said[-1] == "org.x is not installed any more"
    # What codexd wrote can be written again.
    copy.unlink()
    path.write_bytes(seal("x", "<!-- ", " -->"))
    uninstall(manager, hands)
    assert list(path.parent.iterdir()) == []


def test_in_a_dry_run_everything_is_said_and_nothing_done(tmp_path: Path) -> None:
    said: list[str] = []
    hands, path = Hands(said.append, is_dry=True), tmp_path / "unit"
    path.write_text("mine\n")
    hands.make_directory(str(tmp_path / "logs"))
    hands.keep_copy(str(path))
    hands.write(str(path), b"one\ntwo\n", ["false"])
    assert hands.run("rm", "-rf", str(tmp_path)) == 0
    hands.remove(str(path))
    assert [line.split(":")[0] for line in said if not line.startswith("    ")] == [
        "would run",
        "would copy",
        "would write",
        "would run",
        "would run",
    ]
    assert [line for line in said if line.startswith("    ")] == ["    one", "    two"]
    assert [entry.name for entry in tmp_path.iterdir()] == ["unit"]
    assert path.read_text() == "mine\n"


def test_a_checkouts_own_script_is_what_a_service_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = tmp_path / "ops/codexd"
    script.parent.mkdir()
    script.write_text("#!/bin/sh\n")
    script.chmod(0o755)
    monkeypatch.setattr(codexd, "__file__", str(tmp_path / "codexd/__init__.py"))
    # Elsewhere than in its own environment, that script may have none.
    assert installed_program() != [str(script)]
    monkeypatch.setattr(sys, "prefix", str(tmp_path / ".venv"))
    assert installed_program() == [str(script)]
    script.chmod(0o644)
    monkeypatch.setattr(sys, "executable", str(tmp_path / ".venv/bin/python"))
    assert installed_program() == [str(tmp_path / ".venv/bin/python"), "-P", "-m", "codexd"]


def test_each_system_has_its_manager(monkeypatch: pytest.MonkeyPatch) -> None:
    for platform, kind in (("darwin", "launchd"), ("linux", "systemd")):
        monkeypatch.setattr(sys, "platform", platform)
        assert default_kind() == kind
