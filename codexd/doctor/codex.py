"""codex itself: the binary, its configuration, its login."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import stat
import sys
import time
import tomllib
from collections.abc import Mapping
from typing import Any, Final

from codexd.api.stale import find_server
from codexd.child.command import CommandNotFound, find_executable
from codexd.child.npm_shim import behind_shim
from codexd.client.http import ask_hub
from codexd.clock import to_epoch
from codexd.codex_home import codex_home
from codexd.daemons.homes import describe_other
from codexd.doctor.finding import Finding, failed, ok, warn
from codexd.doctor.scene import Scene
from codexd.link.endpoint import default_control_socket
from codexd.platform.files import read_users
from codexd.platform.process import is_alive
from codexd.platform.program import NoAnswer, ask
from codexd.platform.users import user_name

# npm's wrapper takes up to 1.5 s on a machine with nothing to do.
_VERSION_S: Final = 15.0
# How long codexd waits for the server's word, which takes seconds where the machine is busy.
_ACCOUNT_S: Final = 11.0
_POLL_S: Final = 0.1
# The oldest that codexd was run with.
_OLDEST: Final = (0, 163)
_VERSION: Final = re.compile(r"(\d+)\.(\d+)\.\d+\S*")
_MAX_BYTES: Final = 1 << 20
_OTHERS: Final = 0o077
_OTHERS_WRITE: Final = 0o022
# What codex 0.163 logs in by, without auth.json.
_KEYS: Final = ("CODEX_API_KEY", "CODEX_ACCESS_TOKEN")
_INSTALL: Final = "npm install -g @openai/codex, or name it with --server-command /full/path/codex"


def binary(scene: Scene) -> Finding:
    """The server's command: found, what kind of codex it is, and of which version."""
    server = scene.config.server
    if server.child_strategy == "external":
        return ok("The server is external: no codex is started here.")
    path = _program(scene)
    if isinstance(path, Finding):
        return path
    if not os.path.basename(server.child_command).startswith("codex"):
        return ok(f"The server is {path}, another program than codex.")
    kind, is_slow = _kind(path, scene.environ)
    version = _version(path, scene)
    if isinstance(version, Finding):
        return version
    number = ".".join(str(part) for part in _OLDEST)
    found = f"codex {version[0]}, {kind}: {path}"
    if version[1] < _OLDEST:
        return warn(f"{found}. Older than {number} was never run with codexd.", _INSTALL)
    if is_slow:
        return warn(
            f"{found}. It stays between codexd and the server, and costs a second at each start.",
            "name the native binary with --server-command /full/path/codex",
        )
    if scene.live.details["binaryChanged"]:
        return warn(f"{found}. The server runs another.", "codexd restart --when-idle")
    return ok(f"{found}.")


def _program(scene: Scene) -> str | Finding:
    """The program that runs; where none does, what the command leads to here."""
    server, running = scene.config.server, scene.supervised
    # A service has a PATH of its own: what it runs need not be on this one.
    if running.executable is not None and is_alive(running.child):
        path = running.executable[0]
        if os.path.exists(path):
            return path
        return failed(f"{path}, which the server runs, is gone from the disk.", _INSTALL)
    try:
        return find_executable(server, scene.environ)
    except CommandNotFound as error:
        dead = _dead_link(server.child_command, scene.environ)
        if dead is not None:
            return failed(f"{dead} is a link that leads nowhere.", _INSTALL)
        return failed(str(error), _INSTALL)


def _dead_link(command: str, environ: Mapping[str, str]) -> str | None:
    """A link of that name on PATH whose end is gone: what an installer that failed leaves."""
    if "/" in command:
        return command if os.path.islink(command) and not os.path.exists(command) else None
    for directory in environ.get("PATH", os.defpath).split(os.pathsep):
        path = os.path.join(directory or os.curdir, command)
        if os.path.islink(path) and not os.path.exists(path):
            return path
    return None


def _kind(path: str, environ: Mapping[str, str]) -> tuple[str, bool]:
    """How it was installed, and whether it is a wrapper that stays in between."""
    real = os.path.realpath(path)
    if real.endswith(".js"):
        native = behind_shim(path, environ)
        if native is None:
            return "npm's wrapper", True
        return "npm's wrapper, in whose place its native binary is started", False
    for part, kind in (
        ("/codex_cli_bin/", "the binary that came with codexd"),
        ("/packages/standalone/", "a link to the vendor's standalone installation"),
        ("/Caskroom/", "Homebrew's"),
        ("/Cellar/", "Homebrew's"),
    ):
        if part in real:
            return kind, False
    with open(real, "rb") as file:
        is_script = file.read(2) == b"#!"
    return ("a script", False) if is_script else ("a native binary", False)


def _version(path: str, scene: Scene) -> tuple[str, tuple[int, int]] | Finding:
    quoted = shlex.quote(path)
    try:
        code, told = ask([path, "--version"], scene.codex_environ, _VERSION_S)
    except NoAnswer:
        return failed(f"{path} --version says nothing for {_VERSION_S:.0f} s.", _INSTALL)
    except OSError as error:
        return failed(f"{path} cannot be run: {error.strerror}.", _INSTALL)
    said = told.decode("utf-8", "replace")
    found = _VERSION.search(said)
    if code != 0 or found is None:
        return failed(
            f"{path} --version ends with {code} and tells no version.",
            f"{quoted} --version says why; then: {_INSTALL}",
        )
    return found[0], (int(found[1]), int(found[2]))


def configuration(scene: Scene) -> Finding:
    """config.toml: readable, TOML, and taken by the server."""
    path = os.path.join(scene.codex_home, "config.toml")
    document = _read_configuration(path)
    if isinstance(document, Finding):
        return document
    faults = (scene.hub or {}).get("configFaults")
    if isinstance(faults, list) and faults:
        said = " ".join("".join(filter(str.isprintable, str(fault))) for fault in faults)
        return failed(f"The server says of its configuration: {said}", f"${{EDITOR:-vi}} {path}")
    if document is None:
        return ok(f"There is no {path}: codex's defaults hold.")
    return ok(f"{path} can be read.")


def _read_configuration(path: str) -> dict[str, Any] | Finding | None:
    edit = f"${{EDITOR:-vi}} {shlex.quote(path)}"
    try:
        data = read_users(path, _MAX_BYTES + 1)
    except FileNotFoundError:
        if os.path.islink(path):
            return failed(f"{path} is a link that leads nowhere.", f"rm {shlex.quote(path)}")
        return None
    except OSError as error:
        return _unreadable(path, error)
    if len(data) > _MAX_BYTES:
        return failed(f"{path} is larger than {_MAX_BYTES} bytes.", edit)
    try:
        return tomllib.loads(data.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        # Where, and not what: a line of it may hold a secret.
        where = re.search(r"at line \d+, column \d+", str(error))
        return failed(f"{path} is no TOML{f', {where[0]}' if where else ''}.", edit)


def _unreadable(path: str, error: OSError) -> Finding:
    quoted = shlex.quote(path)
    is_mode = isinstance(error, PermissionError)
    mend = f"chmod u+r {quoted}; ls -l {quoted}" if is_mode else f"mv {quoted} {quoted}.old"
    return failed(f"{path} cannot be read: {error.strerror}.", mend)


def login(scene: Scene) -> Finding:
    """Whether the server is logged in: as it says itself, or by what it will find."""
    if scene.process is None or scene.hub is None or not scene.hub.get("ready"):
        return _login_on_disk(scene)
    account = scene.live.details["account"] or _hear_account(scene)
    if not isinstance(account, dict):
        return warn("The server has not said whether it is logged in.", "codexd doctor, again")
    if not account["required"]:
        return ok("The server's model provider needs no login.")
    if account["loggedIn"]:
        return ok(f"The server is logged in ({account['type']}).")
    return failed(
        "The server is not logged in: every turn fails.",
        f"{_login(scene)}, then: codexd restart --when-idle",
    )


def _hear_account(scene: Scene) -> Any:
    """A server that has just become ready has been asked, and says it some seconds later."""
    ready_at = to_epoch(scene.live.daemon.child.ready_at or "")
    age_s = time.time() - ready_at if ready_at is not None else 0.0
    deadline = time.monotonic() + min(_ACCOUNT_S - age_s, _ACCOUNT_S)
    while time.monotonic() < deadline:
        time.sleep(_POLL_S)
        hub = ask_hub(scene.config.runtime.hub_socket_path)
        if hub is None or hub.get("account"):
            return hub and hub["account"]
    return None


def _login(scene: Scene) -> str:
    own = os.path.realpath(codex_home(scene.environ, cwd=os.getcwd()))
    is_other = own != os.path.realpath(scene.codex_home)
    prefix = f"CODEX_HOME={shlex.quote(scene.codex_home)} " if is_other else ""
    if _is_on_path("codex", scene.environ):
        return f"{prefix}codex login"
    # The codex that came with codexd is on no PATH; codexd-codex runs it.
    beside = os.path.join(os.path.dirname(sys.executable), "codexd-codex")
    is_needed = not _is_on_path("codexd-codex", scene.environ) and os.access(beside, os.X_OK)
    return f"{prefix}{shlex.quote(beside) if is_needed else 'codexd-codex'} login"


def _is_on_path(name: str, environ: Mapping[str, str]) -> bool:
    return shutil.which(name, path=environ.get("PATH")) is not None


def _login_on_disk(scene: Scene) -> Finding:
    document = _read_configuration(os.path.join(scene.codex_home, "config.toml"))
    known = document if isinstance(document, dict) else {}
    if not _needs_login(known):
        return ok("config.toml names a model provider that needs no login.")
    if any(scene.environ.get(name, "").strip() for name in _KEYS):
        return ok("The environment has a key to log in with.")
    if known.get("cli_auth_credentials_store") in ("keyring", "auto"):
        return ok("The login is kept in the keyring; `codex login status` tells of it.")
    path = os.path.join(scene.codex_home, "auth.json")
    try:
        status = os.stat(path)
        is_json = isinstance(json.loads(read_users(path, _MAX_BYTES)), dict)
    except FileNotFoundError:
        return failed(f"There is no {path}: codex is not logged in.", _login(scene))
    except OSError as error:
        return _unreadable(path, error)
    except (ValueError, RecursionError):
        is_json = False
    if not is_json:
        return failed(f"{path} is damaged.", _login(scene))
    if status.st_mode & _OTHERS:
        return warn(f"Others may read {path}, your login.", f"chmod 600 {shlex.quote(path)}")
    return ok(f"{path} is there.")


def _needs_login(document: dict[str, Any]) -> bool:
    name = document.get("model_provider", "openai")
    providers = document.get("model_providers")
    provider = providers.get(name) if isinstance(providers, dict) else None
    if not isinstance(provider, dict):
        return bool(name == "openai")
    return provider.get("requires_openai_auth") is True


def home(scene: Scene) -> Finding:
    """CODEX_HOME: there, ours, and served by one daemon only."""
    served = scene.served_home
    if served is None:
        return ok("The server has no CODEX_HOME of its own.")
    quoted = shlex.quote(served)
    other = describe_other(served, scene.environ, but=_pid(scene))
    if other is not None:
        return failed(other, "stop one of the two, or give this one another CODEX_HOME")
    if not os.path.lexists(served):
        return _missing_home(scene, served)
    try:
        status = os.stat(served)
    except OSError as error:
        detail = f"CODEX_HOME {served} cannot be used: {error.strerror}."
        return failed(detail, f"ls -ld {quoted}")
    if not stat.S_ISDIR(status.st_mode):
        return failed(f"CODEX_HOME {served} is no directory.", "set CODEX_HOME to one")
    if status.st_uid != os.geteuid():
        owner = user_name(status.st_uid)
        return warn(f"CODEX_HOME {served} belongs to {owner}.", f"run this as {owner}")
    if not os.access(served, os.W_OK | os.X_OK):
        return failed(f"CODEX_HOME {served} cannot be written.", f"chmod u+rwx {quoted}")
    if status.st_mode & _OTHERS_WRITE:
        return warn(f"Others may write into CODEX_HOME {served}.", f"chmod go-w {quoted}")
    return ok(f"{served} is served by no other daemon.")


def _missing_home(scene: Scene, served: str) -> Finding:
    mend = f"mkdir -m 700 -p {shlex.quote(served)}"
    if scene.environ.get("CODEX_HOME", "").strip():
        return failed(
            f"CODEX_HOME {served} is not there, and codex does not start without it.", mend
        )
    named = codex_home(scene.environ, cwd=scene.config.server.child_cwd)
    if os.path.islink(named):
        detail = f"{named} is a link that leads nowhere, and codex does not start with it."
        return failed(detail, mend)
    return ok(f"codex makes {served} at its first start.")


def _pid(scene: Scene) -> int | None:
    return scene.process.pid if scene.process is not None else None


def vendor(scene: Scene) -> Finding:
    """The vendor's control socket: who is there, and whether that is in the way."""
    path = default_control_socket(scene.codex_environ)
    quoted = shlex.quote(path)
    wanted = scene.config.policy.hub_default_socket
    if not os.path.lexists(path):
        return ok(f"Nobody is on {path}.")
    server = find_server(path)
    if server is None:
        target = os.path.realpath(path)
        if os.path.lexists(target) and not stat.S_ISSOCK(os.lstat(target).st_mode):
            detail = f"{path} is in the way: it is no socket."
            return (failed if wanted else warn)(detail, f"mv {quoted} {quoted}.old")
        return warn(
            f"{path} is the dead socket of a server that is gone; a plain `codex` tries it first.",
            f"rm {quoted}",
        )
    child = scene.supervised.child
    ours = {process.pid for process in (scene.process, scene.writer, child) if process}
    if server.pid in ours:
        return ok(f"codexd itself is on {path}.")
    what = "where the hub is to be" if wanted else "and has a thread's file open where it runs one"
    stop = server.stop or f"lsof {quoted} tells who it is"
    return (failed if wanted else warn)(f"{server.name} serves {path}, {what}.", stop)
