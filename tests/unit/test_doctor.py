"""What usually goes wrong, brought about one by one: which check tells of it, and what it says."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import socket
import stat
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from codexd.child import steps
from codexd.cli.doctor import format_finding, format_line, make_scene, summary, tell_where
from codexd.cli.terminal import painter
from codexd.client.errors import DaemonError
from codexd.client.live import Live
from codexd.config import resolve
from codexd.contracts import Event, EventLevel
from codexd.doctor import daemon, places, service
from codexd.doctor.examine import CHECKS, examine
from codexd.doctor.finding import Finding, failed, ok, warn
from codexd.doctor.scene import Scene
from codexd.platform import lock
from codexd.platform.filelock import FileLock
from codexd.platform.process import identify
from codexd.service.choose import installed_program
from codexd.service.status import ServiceStatus
from codexd.settings import BY_NAME
from codexd.store.blank import blank_daemon
from codexd.store.files import pretty, write_atomic
from codexd.store.scaffold import Scaffold
from codexd.store.snapshot import read_daemon
from tests.support.codex import short_directory
from tests.support.waiting import eventually

NOBODY = 2**22 + 1
CODEX = "#!/bin/sh\necho codex-cli 0.170.0\n"


class Patient:
    """A repository with a codex, a login and a daemon's directories, all of them well."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.home = root / "home/.codex"
        self.state = root / "state/codexd"
        self.logs = root / "logs/codexd"
        for directory in (self.home, self.state, self.logs):
            directory.mkdir(parents=True, mode=0o700)
        self.write(self.home / "auth.json", '{"tokens": "very-secret"}')
        self.codex = self.write(root / "bin/codex", CODEX, mode=0o755)
        self.flags: dict[str, str] = {}
        self.environ = {
            "HOME": str(root / "home"),
            "PATH": f"{root}/bin:/usr/bin:/bin",
            "XDG_STATE_HOME": str(root / "xdg"),
        }
        # Of a daemon that runs: what the hub says.
        self.hub: dict[str, Any] | None = None
        self.is_running, self.up = False, True

    def write(self, path: Path, text: str, mode: int = 0o600) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        path.chmod(mode)
        return path

    def record(self, **facts: Any) -> None:
        """daemon-state.json."""
        state = blank_daemon(self.scene().config.server)
        child = facts.pop("child", {})
        for name, value in facts.items():
            setattr(state, name, value)
        for name, value in child.items():
            setattr(state.child, name, value)
        write_atomic(str(self.state / "daemon-state.json"), pretty(state))

    def event(self, at: float, level: EventLevel, **detail: Any) -> None:
        """The end of a server, in events.jsonl."""
        created = time.strftime("%Y-%m-%dT%H:%M:%S.000Z", time.gmtime(at))
        event = Event(
            seq=1,
            created_at=created,
            level=level,
            type="child.exited",
            message="The daemon too.",
            detail=detail,
        )
        self.write(self.logs / "events.jsonl", msgspec.json.encode(event).decode() + "\n")

    def run(self, hub: dict[str, Any] | None = None) -> None:
        """This process is the daemon, and the plugin as well."""
        lock.acquire(self.scene().config.runtime.lock_path)
        self.is_running, self.hub = True, hub
        self.record(started=True, pid=os.getpid(), child={"status": "running", "ready": True})
        self.write(self.state / "writer.lock", msgspec.json.encode(identify(os.getpid())).decode())
        Path(self.scene().config.runtime.runtime_dir).mkdir(parents=True, mode=0o700)

    def scene(self) -> Scene:
        """What a check is given."""
        config = resolve({"repo_root": str(self.root), **self.flags}, self.environ, cwd="/")
        process = lock.living_holder(config.runtime.lock_path) if self.is_running else None
        scene = Scene(config, process, self.environ)
        if self.hub is not None:
            live = scene.live
            parts = {"hub": self.hub, "account": self.hub.get("account")}
            details = {**live.details, **parts, "health": self.hub.get("health")}
            known = Live(
                config=live.config,
                # Its server is none that could be looked for.
                daemon=read_daemon(config.paths) or live.daemon,
                details=details,
                remarks=live.remarks,
                up=self.up,
            )
            scene.__dict__["live"] = known
        return scene

    def found(self, check: str) -> Finding:
        """What one check says."""
        return dict(examine(self.scene(), {check: CHECKS[check]}))[check]


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> Iterator[Patient]:
    """In a place with a short path, for there are sockets in it."""
    monkeypatch.setattr(daemon, "running_turns", lambda _place: 0)
    with short_directory() as directory:
        made = Patient(Path(directory))
        yield made
        lock.release(str(made.state / "daemon.lock"))


def test_where_nothing_is_wrong_nothing_is_told(patient: Patient) -> None:
    found = dict(examine(patient.scene()))
    wrong = {name: finding for name, finding in found.items() if finding.status != "ok"}
    assert set(wrong) == {"daemon"}, wrong
    assert wrong["daemon"].mend == "codexd start"

    account = {"loggedIn": True, "required": True, "type": "chatgpt"}
    patient.run({"ready": True, "account": account})
    found = dict(examine(patient.scene()))
    assert {name: f for name, f in found.items() if f.status != "ok"} == {}
    assert found["login"].detail == "The server is logged in (chatgpt)."
    assert found["codex"].detail == f"codex 0.170.0, a script: {patient.codex}."


def _dead_socket(path: Path) -> None:
    path.parent.mkdir(parents=True)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))


def _control(patient: Patient) -> Path:
    return patient.home / "app-server-control/app-server-control.sock"


def _dead_link(patient: Patient) -> None:
    patient.codex.unlink()
    patient.codex.symlink_to("/gone")
    patient.flags["server_command"] = str(patient.codex)


def _gone_while_it_runs(patient: Patient) -> None:
    """As an upgrade leaves it that takes the old one away."""
    patient.run({})
    record = steps.Supervision(child=identify(os.getpid()), executable=("/gone/codex", 1, 1))
    steps.save(steps.path_of(str(patient.state)), record)


def _orphan(patient: Patient) -> None:
    """A server whose daemon was killed."""
    record = steps.Supervision(child=identify(os.getpid()))
    steps.save(steps.path_of(str(patient.state)), record)
    patient.record(child={"status": "running", "pid": os.getpid()})


def _npm(patient: Patient) -> None:
    script = patient.write(patient.root / "npm/bin/codex.js", CODEX, mode=0o755)
    patient.codex.unlink()
    patient.codex.symlink_to(script)


def _bad(patient: Patient, text: str) -> None:
    patient.write(patient.home / "config.toml", text)


def _link_in_repo(patient: Patient) -> None:
    (patient.root / "logs").rename(patient.root / "elsewhere")
    (patient.root / "logs").symlink_to("elsewhere")


def _file_for_state(patient: Patient) -> None:
    patient.state.rmdir()
    patient.state.write_text("")


def _future(patient: Patient) -> None:
    patient.record()
    os.utime(patient.state / "daemon-state.json", (time.time() + 7200,) * 2)


def _skewed(patient: Patient) -> None:
    patient.run({})
    os.utime(patient.state / "daemon-state.json", (time.time() - 7200,) * 2)


def _ended_without_a_word(patient: Patient) -> None:
    patient.record(started=True, pid=NOBODY)


def _crashed(patient: Patient) -> None:
    patient.event(time.time(), "error", code=1, signal=None, reason="Error: no such model")


def _no_plugin(patient: Patient) -> None:
    patient.run({})
    patient.write(patient.state / "writer.lock", '{"pid": 4194305, "token": "x"}')


def _failed_server(patient: Patient) -> None:
    patient.run({})
    when = "2026-01-01T00:00:00.000Z"
    child = {"status": "failed", "last_error": "Address in use.", "next_restart_at": when}
    patient.record(started=True, pid=os.getpid(), child=child)


def _open_runtime(patient: Patient) -> None:
    place = Path(patient.scene().config.runtime.runtime_dir)
    place.mkdir()
    place.chmod(0o777)


def _no_runtime(patient: Patient) -> None:
    patient.run({})
    Path(patient.scene().config.runtime.runtime_dir).rmdir()


def _unreadable_list(patient: Patient) -> None:
    patient.write(patient.root / "xdg/codexd/daemons/x.json", "{")


def _link_for_home(patient: Patient, target: str) -> None:
    shutil.rmtree(patient.home)
    patient.home.symlink_to(target)


def _dead_state(patient: Patient) -> None:
    (patient.root / "dead").symlink_to("/gone")
    (patient.root / "repo").mkdir()
    patient.flags.update(repo_root=f"{patient.root}/repo", state_dir=f"{patient.root}/dead")


BREAKS: list[tuple[str, Callable[[Patient], Any], str, str]] = [
    ("settings", lambda p: p.flags.update(hub_listen="127.0.0.1:1", hub_tls_cert="/x"), "failed",
        "go together"),
    # codex
    ("codex", lambda p: p.flags.update(server_command="no-such"), "failed", "is not on PATH"),
    ("codex", _dead_link, "failed", "is a link that leads nowhere"),
    ("codex", lambda p: p.write(p.codex, "#!/bin/sh\nexit 3\n", 0o755), "failed", "ends with 3"),
    ("codex", lambda p: p.write(p.codex, "#!/no/such/node\n", 0o755), "failed", "cannot be run"),
    ("codex", lambda p: p.write(p.codex, CODEX.replace("170", "99"), 0o755), "warn",
        "Older than 0.163"),
    ("codex", _gone_while_it_runs, "failed", "is gone from the disk"),
    ("codex", _npm, "warn", "npm's wrapper"),
    ("config.toml", lambda p: _bad(p, "key = 'sec\nret'"), "failed", "is no TOML, at line 1"),
    ("config.toml", lambda p: (p.home / "config.toml").mkdir(), "failed", "cannot be read"),
    ("config.toml", lambda p: (p.home / "config.toml").symlink_to("/gone"), "failed", "nowhere"),
    ("config.toml", lambda p: p.run({"configFaults": ["no such\nkey"]}), "failed", "no suchkey"),
    ("config.toml", lambda p: os.mkfifo(p.home / "config.toml"), "failed", "Not a regular file"),
    ("login", lambda p: (p.home / "auth.json").unlink(), "failed", "is not logged in"),
    ("login", lambda p: p.write(p.home / "auth.json", "very-secret"), "failed", "is damaged"),
    ("login", lambda p: (p.home / "auth.json").chmod(0o644), "warn", "Others may read"),
    ("login", lambda p: p.run({"ready": True, "account": {"required": True, "loggedIn": False}}),
        "failed", "every turn fails"),
    ("login", lambda p: p.run({"ready": True}), "warn", "has not said"),
    ("codex-home", lambda p: p.environ.update(CODEX_HOME="/no/such"), "failed", "is not there"),
    ("codex-home", lambda p: p.home.chmod(0o777), "warn", "Others may write"),
    ("codex-home", lambda p: _link_for_home(p, "/no/such"), "failed", "that leads nowhere"),
    ("codex-home", lambda p: _link_for_home(p, ".codex"), "failed", "Too many levels"),
    ("vendor", lambda p: _dead_socket(_control(p)), "warn", "dead socket"),
    ("vendor", lambda p: (p.flags.update(hub_default_socket="true"),
        p.write(_control(p), "")), "failed", "it is no socket"),
    # places
    ("directories", _link_in_repo, "failed", "is a symbolic link in the repository"),
    ("directories", _file_for_state, "failed", "is a file, and must be a directory"),
    ("directories", lambda p: p.flags.update(server_cwd="/no/such"), "failed", "does not exist"),
    ("modes", lambda p: p.logs.chmod(0o755), "warn", "Others may read or write"),
    ("modes", lambda p: p.write(p.state / "identity.json", "", 0o644), "warn", "identity.json"),
    ("directories", _dead_state, "failed", "leads nowhere"),
    ("state", lambda p: p.write(p.state / "identity.json", "{"), "warn", "is no JSON"),
    ("state", lambda p: os.mkfifo(p.state / "session-registry.json"), "warn", "cannot be read"),
    ("state", lambda p: (p.logs / "events.jsonl").mkdir(), "warn", "is a directory"),
    ("runtime", _open_runtime, "failed", "is writable by others"),
    ("runtime", _no_runtime, "failed", "is gone under the daemon"),
    ("sockets", lambda p: p.flags.update(server_endpoint=f"unix:///{'x' * 120}"), "failed",
        "is too long for a socket"),
    ("sockets", lambda p: p.environ.update(CODEX_HOME=f"/{'x' * 99}"), "warn",
        "A plain `codex` finds no server"),
    ("listener", lambda p: p.flags.update(hub_listen="192.0.2.1:0", hub_allow_plaintext="true"),
        "failed", "The hub cannot listen"),
    ("listener", lambda p: p.flags.update(hub_listen="127.0.0.1:0", hub_token_file="/etc/passwd"),
        "failed", "can be read or written by others"),
    # the daemon
    ("daemons", _unreadable_list, "warn", "tells of no daemon"),
    ("daemon", _ended_without_a_word, "failed", "ended without a word"),
    ("daemon", _orphan, "failed", "lives without its daemon"),
    ("plugin", _no_plugin, "failed", "The plugin is gone"),
    ("hub", lambda p: p.run(None), "failed", "Nobody answers on"),
    ("hub", lambda p: p.run({"unservedSockets": [{"reason": "Taken."}]}), "failed", "Taken."),
    ("server", _failed_server, "failed", "Address in use. Its next try is at 2026-01-01"),
    ("server", lambda p: p.run({"health": {"misses": 2, "lastAnswerAt": "noon"}}), "warn",
        "missed 2 health checks"),
    ("crash", _crashed, "warn", "exit code 1, Error: no such model."),
    ("crash", lambda p: p.event(time.time(), "error", signal="SIGKILL"), "warn", "out of memory"),
    ("crash", lambda p: p.event(time.time(), "error", code=None), "warn", ": The daemon too."),
    ("clock", _future, "warn", "s from now: the clock was set back"),
    ("clock", _skewed, "warn", "7200 s apart"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("check", "break_it", "status", "said"),
    BREAKS,
    ids=[f"{row[0]}: {row[3]}" for row in BREAKS],
)
def test_what_is_broken_is_told(
    patient: Patient,
    check: str,
    break_it: Callable[[Patient], Any],
    status: str,
    said: str,
) -> None:
    assert patient.found(check).status in ("ok", "warn")
    break_it(patient)
    found = patient.found(check)
    assert (found.status, said in found.detail) == (status, True), found
    assert found.mend
    assert "secret" not in found.detail


def _new_binary(patient: Patient) -> None:
    patient.run({})
    record = steps.Supervision(child=identify(os.getpid()), executable=(str(patient.codex), 1, 1))
    steps.save(steps.path_of(str(patient.state)), record)


def _provider(patient: Patient, more: str = "") -> None:
    (patient.home / "auth.json").unlink()
    _bad(patient, f'model_provider = "mine"\n[model_providers.mine]\nname = "x"\n{more}')


def _keyring(patient: Patient) -> None:
    (patient.home / "auth.json").unlink()
    _bad(patient, 'cli_auth_credentials_store = "keyring"')


def _key(patient: Patient) -> None:
    (patient.home / "auth.json").unlink()
    patient.environ["CODEX_API_KEY"] = "very-secret"


def _long_state(patient: Patient) -> None:
    patient.flags["state_dir"] = str(patient.root / ("x" * 90))


def _installed(patient: Patient, where: str) -> None:
    """codex on PATH is a link to one that an installer has put there."""
    place = patient.root / where
    place.mkdir(parents=True)
    patient.codex.rename(place / "codex")
    patient.codex.symlink_to(place / "codex")


def _dead_link_on_path(patient: Patient) -> None:
    (patient.root / "bin/codex-x").symlink_to("/gone")
    patient.flags["server_command"] = "codex-x"


def _file_for_home(patient: Patient) -> None:
    shutil.rmtree(patient.home)
    patient.home.write_text("")


def _not_ready(patient: Patient) -> None:
    patient.run({})
    patient.up = False


def _ready_and_not_everywhere(patient: Patient) -> None:
    patient.run({"ready": True, "unservedSockets": [{"reason": "Taken."}]})
    patient.up = False


def _listening(patient: Patient) -> None:
    patient.flags["hub_listen"] = "127.0.0.1:0"
    patient.run({"tcp": {"url": "ws://127.0.0.1:7"}})


def _stopped(patient: Patient) -> None:
    _not_ready(patient)
    patient.record(started=True, pid=os.getpid(), child={"status": "stopped"})


# What is as it may be, or nearly.
ALSO: list[tuple[str, Callable[[Patient], Any], str, str]] = [
    ("settings", lambda _p: None, "ok", "There is no codexd.toml"),
    ("codex", lambda p: p.flags.update(server_strategy="external"), "ok", "is external"),
    ("codex", lambda p: p.flags.update(server_command="/bin/sh"), "ok", "another program"),
    ("codex", _new_binary, "warn", "The server runs another"),
    ("codex", lambda p: _installed(p, "packages/standalone/0.170.0"), "ok",
        "a link to the vendor's standalone installation"),
    ("codex", lambda p: _installed(p, "Caskroom/codex/0.170.0"), "ok", "Homebrew's"),
    ("codex", lambda p: _installed(p, "codex_cli_bin/bin"), "ok", "came with codexd"),
    ("codex", _dead_link_on_path, "failed", "bin/codex-x is a link that leads nowhere"),
    ("config.toml", lambda p: _bad(p, "#" * (1 << 20) + "#"), "failed", "is larger than"),
    ("config.toml", lambda p: _bad(p, "#" * (1 << 20)), "ok", "can be read"),
    ("config.toml", lambda _p: None, "ok", "There is no"),
    ("login", _provider, "ok", "needs no login"),
    ("login", lambda p: _provider(p, "requires_openai_auth = true"), "failed", "not logged in"),
    ("login", lambda p: p.run({"ready": True, "account": {"required": False}}), "ok",
        "needs no login"),
    ("login", lambda p: p.run({"ready": False}), "ok", "auth.json is there"),
    ("login", _keyring, "ok", "is kept in the keyring"),
    ("login", _key, "ok", "has a key to log in with"),
    ("login", lambda p: p.run(None), "ok", "auth.json is there"),
    ("codex-home", lambda p: shutil.rmtree(p.home), "ok", "at its first start"),
    ("codex-home", _file_for_home, "failed",
        "is no directory"),
    ("codex-home", lambda p: p.flags.update(server_strategy="external"), "ok",
        "no CODEX_HOME of its own"),
    ("vendor", lambda p: p.write(_control(p), ""), "warn", "it is no socket"),
    ("directories", lambda p: shutil.rmtree(p.state), "ok", "makes what is not there yet"),
    ("sockets", lambda p: (p.environ.update(CODEX_HOME=f"/{'x' * 99}"), p.flags.update(
        hub_default_socket="true")), "failed", "The hub cannot be there"),
    ("sockets", _long_state, "ok", "path is too long for a socket"),
    ("runtime", lambda p: Path(p.scene().config.runtime.runtime_dir).mkdir(mode=0o700), "ok",
        "was left by a daemon"),
    ("hub", lambda p: p.run({"clients": 3}), "ok", "3 clients"),
    ("listener", lambda p: p.flags.update(hub_listen="127.0.0.1:0"), "ok", "can listen on"),
    ("listener", _listening, "ok", "is on ws://127.0.0.1:7"),
    ("disk", lambda p: _link_for_home(p, ".codex"), "ok", "are free"),
    ("server", _ready_and_not_everywhere, "ok", "running and ready"),
    ("server", _stopped, "warn", "was stopped"),
    ("server", _not_ready, "failed", "running and not ready"),
    ("clock", lambda p: p.record(updated_at="2999-01-01T00:00:00.000Z"), "warn", "set back"),
    ("crash", lambda p: p.event(time.time(), "error", code=3), "warn", "it said nothing."),
]  # fmt: skip


@pytest.mark.parametrize(
    ("check", "arrange", "status", "said"), ALSO, ids=[f"{row[0]}: {row[3]}" for row in ALSO]
)
def test_what_else_is_told(
    patient: Patient,
    check: str,
    arrange: Callable[[Patient], Any],
    status: str,
    said: str,
) -> None:
    arrange(patient)
    found = patient.found(check)
    assert (found.status, said in found.detail) == (status, True), found
    assert (found.mend is None) == (status == "ok")


def test_a_codex_that_does_not_end_is_told_and_leaves_nothing(
    patient: Patient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(patient.root)
    monkeypatch.setattr("codexd.doctor.codex._VERSION_S", 1.0)
    patient.write(patient.codex, "#!/bin/sh\nsleep 60 &\necho $! >pid\n", 0o755)
    told = patient.root / "pid"
    told.write_text("")

    def has_begun() -> bool:
        found = patient.found("codex")
        assert (found.status, "--version says nothing for" in found.detail) == ("failed", True)
        return bool(told.read_text().strip())

    # It may not come to anything in its time.
    eventually(has_begun, what="a codex that has started something")
    pid = int(told.read_text())
    eventually(lambda: identify(pid) is None, what="the end of what it started")


def test_of_a_codex_that_never_stops_talking_little_is_kept(patient: Patient) -> None:
    patient.write(patient.codex, "#!/bin/sh\nexec yes\n", 0o755)
    assert "tells no version" in patient.found("codex").detail


def test_a_server_that_has_just_begun_is_heard_out(
    patient: Patient, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = iter([{"account": None}, {"account": {"required": False}}])
    monkeypatch.setattr("codexd.doctor.codex.ask_hub", lambda _path: next(answers))
    patient.run({"ready": True})
    assert patient.found("login") == ok("The server's model provider needs no login.")
    # One that has had its time is not waited for.
    long_ago = {"status": "running", "ready": True, "ready_at": "2026-01-01T00:00:00.000Z"}
    patient.record(started=True, pid=os.getpid(), child=long_ago)
    assert patient.found("login").status == "warn"


def test_a_login_of_another_home_is_told_with_it(patient: Patient) -> None:
    (patient.home / "auth.json").unlink()
    scene = patient.scene()
    scene.__dict__["served_home"] = "/else where"
    assert CHECKS["login"](scene).mend == "CODEX_HOME='/else where' codex login"


def test_how_to_log_in_is_told_so_that_it_can_be_typed(
    patient: Patient, monkeypatch: pytest.MonkeyPatch
) -> None:
    (patient.home / "auth.json").unlink()
    assert patient.found("login").mend == "codex login"
    patient.codex.rename(patient.codex.with_name("codexd-codex"))
    assert patient.found("login").mend == "codexd-codex login"
    patient.environ["PATH"] = "/usr/bin:/bin"
    beside = patient.root / "venv/bin"
    monkeypatch.setattr(sys, "executable", str(beside / "python"))
    patient.write(beside / "codexd-codex", CODEX, 0o755)
    assert patient.found("login").mend == f"{beside}/codexd-codex login"


def test_who_lives_on_the_vendors_socket_is_named(patient: Patient) -> None:
    path = _control(patient)
    path.parent.mkdir(parents=True)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        found = patient.found("vendor")
        assert found.status == "warn"
        assert found.mend is not None
        if sys.platform == "linux":
            assert f"pid {os.getpid()}" in found.detail
            assert f"kill {os.getpid()}" in found.mend
        patient.flags["hub_default_socket"] = "true"
        found = patient.found("vendor")
        assert (found.status, "where the hub is to be" in found.detail) == ("failed", True)
        # As the plugin, this process is the hub itself.
        patient.run({})
        assert patient.found("vendor").status == "ok"


def test_another_daemon_on_the_codex_home_is_named(
    patient: Patient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from codexd.daemons import membership

    other = resolve({"repo_root": str(tmp_path), "server_command": "codex"}, {}, cwd="/")
    membership.enter(other, patient.environ)
    try:
        monkeypatch.setattr(os, "getpid", lambda: NOBODY)
        found = patient.found("codex-home")
        assert found.status == "failed"
        assert f"for {tmp_path}" in found.detail
        monkeypatch.undo()
    finally:
        membership.leave(other.paths.state_dir, patient.environ)


@pytest.mark.parametrize(
    ("system", "status", "said"),
    [
        ({"f_bavail": 1 << 10}, "failed", "4 MiB are free"),
        ({"f_bavail": 1 << 17}, "warn", "512 MiB are free"),
        ({"f_favail": 0}, "failed", "no more files"),
        ({"f_flag": os.ST_RDONLY}, "failed", "read-only"),
    ],
)
def test_a_disk_that_is_full(
    patient: Patient,
    monkeypatch: pytest.MonkeyPatch,
    system: dict[str, int],
    status: str,
    said: str,
) -> None:
    facts = {"f_bavail": 1 << 30, "f_frsize": 4096, "f_files": 9, "f_favail": 9, "f_flag": 0}

    class Disk:
        def __init__(self) -> None:
            self.__dict__.update({**facts, **system})

    monkeypatch.setattr(os, "statvfs", lambda _path: Disk())
    found = patient.found("disk")
    assert (found.status, said in found.detail) == (status, True), found


def test_a_daemon_of_the_original_is_named(
    patient: Patient, monkeypatch: pytest.MonkeyPatch
) -> None:
    lives = Scaffold(identify(os.getpid()), None)
    monkeypatch.setattr(daemon, "find_scaffold", lambda _paths, **_ours: lives)
    found = patient.found("daemon")
    assert (found.status, found.mend) == ("failed", f"kill {os.getpid()}")


def test_what_belongs_to_somebody_else(patient: Patient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: NOBODY)
    for check in ("directories", "codex-home"):
        found = patient.found(check)
        assert "belongs to" in found.detail
        assert "run this as" in (found.mend or "")


def test_what_cannot_be_written(patient: Patient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda _path, mode: mode != os.W_OK | os.X_OK)
    for check in ("directories", "codex-home"):
        found = patient.found(check)
        assert (found.status, "cannot be written" in found.detail) == ("failed", True)
        assert "chmod u+rwx" in (found.mend or "")


@pytest.mark.parametrize(
    ("facts", "status", "said"),
    [
        ({"installed": False}, "ok", "No service is installed"),
        ({"installed": False, "reason": "Its file is gone."}, "failed", "Its file is gone."),
        ({"state_dir": "/else/where"}, "ok", "not for this daemon"),
        ({"loaded": False}, "failed", "does not start it"),
        ({"reason": "No such disk."}, "failed", "No such disk."),
        ({"edited": True}, "warn", "was edited"),
        ({"current": False}, "warn", "was written by 0.0.9"),
        ({}, "ok", "runs as pid 7"),
    ],
)
def test_a_service_that_is_not_as_it_should_be(
    patient: Patient,
    monkeypatch: pytest.MonkeyPatch,
    facts: dict[str, Any],
    status: str,
    said: str,
) -> None:
    well = {"installed": True, "loaded": True, "pid": 7, "ready": True, "current": True}
    names = {"manager": "systemd", "name": "codexd.service", "path": "/x", "version": "0.0.9"}
    known = ServiceStatus(**{**names, **well, "state_dir": str(patient.state), **facts})
    monkeypatch.setattr(service, "service_status", lambda *_about: known)
    found = patient.found("service")
    assert (found.status, said in found.detail) == (status, True), found
    assert (found.mend is None) == (status == "ok")


def test_few_open_files(patient: Patient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(daemon, "STARTERS_LIMIT", (256, 256))
    found = patient.found("open-files")
    assert (found.status, "may have 256 open files" in found.detail) == ("warn", True)
    patient.run({})
    monkeypatch.setattr(daemon, "_limit_of", lambda _pid: 300)
    found = patient.found("open-files")
    assert (found.status, "of 300" in found.detail) == ("warn", True)


def test_a_clock_that_stood_still(patient: Patient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "time", lambda: 86_400.0)
    found = patient.found("clock")
    assert (found.status, "no certificate" in found.detail) == ("failed", True)


def test_an_old_crash_is_history(patient: Patient) -> None:
    patient.event(time.time() - 3 * 86_400, "error", code=7, reason="Out of luck")
    found = patient.found("crash")
    assert (found.status, "exit code 7, Out of luck." in found.detail) == ("ok", True)
    patient.event(time.time(), "info", code=0)
    assert patient.found("crash").detail.startswith("No server has crashed")


def test_a_check_that_fails_itself_is_told_as_such(patient: Patient) -> None:
    def broken(scene: Scene) -> Finding:
        raise KeyError(f"of {scene.config.node_id}\nand more")

    found = dict(examine(patient.scene(), {"a": broken, "b": lambda _scene: ok("Well.")}))
    assert found["a"].status == "failed"
    assert "This check itself failed: KeyError" in found["a"].detail
    assert "\n" not in found["a"].detail
    assert found["b"] == ok("Well.")


def test_a_daemon_that_hangs_is_told(patient: Patient, monkeypatch: pytest.MonkeyPatch) -> None:
    def mute(_place: object) -> None:
        raise DaemonError("circusd did not answer: Timed out.")

    monkeypatch.setattr(daemon, "running_turns", mute)
    patient.run({})
    found = patient.found("daemon")
    assert (found.status, "runs and does not answer" in found.detail) == ("failed", True)
    assert f"kill -CONT {os.getpid()}" in (found.mend or "")


def test_a_check_that_has_no_end_is_told_as_such(
    patient: Patient, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = threading.Event()

    def hung(scene: Scene) -> Finding:
        disk.wait()
        return ok(scene.config.node_id)

    monkeypatch.setattr("codexd.doctor.examine._PATIENCE_S", 1.0)
    try:
        found = dict(examine(patient.scene(), {"a": hung, "b": lambda _scene: ok("Well.")}))
    finally:
        disk.set()
    assert (found["a"].status, "has no end" in found["a"].detail) == ("failed", True)
    assert found["b"] == ok("Well.")


def test_settings_that_cannot_be_used_are_told_and_left_out(
    patient: Patient, monkeypatch: pytest.MonkeyPatch
) -> None:
    flags: dict[str, Any] = {"repo_root": str(patient.root)}
    monkeypatch.setenv("HOME", str(patient.root / "home"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(patient.root / "config"))
    monkeypatch.setenv("BAA_CODEXD_MODE", "sideways")
    named = patient.write(patient.root / "config/codexd/codexd.toml", "no_such_key = 1")
    scene = make_scene(flags, None)
    found = CHECKS["settings"](scene)
    assert found.status == "failed"
    assert f"{named}: unknown key 'no_such_key'" in found.detail
    assert "sideways" in found.detail
    assert scene.config.server.mode == "app-server"

    monkeypatch.delenv("BAA_CODEXD_MODE")
    named.write_text("log_backups = 3")
    found = CHECKS["settings"](make_scene(flags, None))
    assert found == ok(f"{named} can be read.")


def test_to_look_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HOME", "XDG_CONFIG_HOME", "XDG_STATE_HOME", "CODEX_HOME"):
        monkeypatch.setenv(name, str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    found = dict(examine(make_scene(dict.fromkeys(BY_NAME), None)))
    assert [name for name, finding in found.items() if "itself failed" in finding.detail] == []
    assert list(tmp_path.iterdir()) == []


def test_lines_for_programs_and_for_people(monkeypatch: pytest.MonkeyPatch) -> None:
    finding = warn("A\tsentence " + "of words " * 12, "rm /a/b")
    assert format_line("disk", finding).split("\t")[::2] == ["warn", finding.detail.replace(
        "\t", "\\t")]  # fmt: skip
    assert format_line("disk", ok("Well.")) == "ok\tdisk\tWell.\t-"

    class Terminal:
        encoding = "utf-8"

        def isatty(self) -> bool:
            return True

    monkeypatch.setattr(sys, "stdout", Terminal())
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    people = format_finding("disk", finding, 60, painter())
    assert people.startswith("\x1b[33m!\x1b[0m disk")
    monkeypatch.setenv("NO_COLOR", "1")
    plain = format_finding("disk", finding, 60, painter())
    assert plain.startswith("! disk")
    assert max(len(line) for line in plain.splitlines()) <= 60
    assert plain.splitlines()[-1].endswith("→ rm /a/b")
    for term, encoding in (("dumb", "utf-8"), ("xterm", "ascii")):
        monkeypatch.setenv("TERM", term)
        monkeypatch.setattr(Terminal, "encoding", encoding)
        dumb = format_finding("disk", failed("Full.", "rm /a"), 60, painter())
        assert dumb.isascii()
        assert dumb.startswith("failed disk")


def test_who_has_codexd_on_no_path_is_told_where_it_is(tmp_path: Path) -> None:
    told = [("a", failed("b", "codexd start"))]
    where = tell_where(told, str(tmp_path))
    assert where is not None
    assert shlex.join(installed_program()) in where
    assert tell_where([("a", failed("b", "rm c")), ("d", ok("e"))], str(tmp_path)) is None
    (tmp_path / "codexd").write_text("")
    (tmp_path / "codexd").chmod(0o755)
    assert tell_where(told, str(tmp_path)) is None


def test_the_page_tells_of_every_check_and_each_is_broken_by_one_test() -> None:
    page = Path(__file__).parents[2] / "docs/how-to/troubleshoot.md"
    rows = re.findall(r"^\| ([\w., -]+) \| ", page.read_text(), re.MULTILINE)
    assert [name for row in rows[2:] for name in row.split(", ")] == list(CHECKS)
    # These have tests of their own.
    elsewhere = {"disk", "open-files", "service"}
    assert {row[0] for row in BREAKS} | elsewhere == set(CHECKS)


def test_the_summary_counts() -> None:
    assert summary([ok("a")]) == "All is well."
    assert summary([ok("a"), warn("b", "c"), failed("d", "e")]) == "1 wrong, 1 to look at, 1 well."


def test_the_limit_of_a_sockets_path_is_the_systems() -> None:
    with short_directory() as directory, socket.socket(socket.AF_UNIX) as listener:
        longest = f"{directory}/{'x' * (places.SOCKET_PATH_LIMIT - len(str(directory)) - 1)}"
        with pytest.raises(OSError, match="too long"):
            listener.bind(f"{longest}x")
        listener.bind(longest)
        assert stat.S_ISSOCK(os.stat(longest).st_mode)


def test_who_signs_for_the_files_is_found(patient: Patient) -> None:
    writer = FileLock(str(patient.state / "writer.lock"))
    assert writer.acquire(0)
    assert patient.scene().writer == identify(os.getpid())
    writer.release()
    assert patient.scene().writer is None
