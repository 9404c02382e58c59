"""Higher rooms import lower ones only, and what must start quickly loads nothing heavy."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.rooms import BANNED, HOMES, NOT_IN_THE_PLUGIN, ROOMS

PACKAGE = Path(__file__).resolve().parents[2] / "codexd"

RANKS = (("__main__",), *ROOMS)
# Every other module is a value or a small tool: below all rooms, free to import its like.
GROUND = len(RANKS)


def rank(room: str) -> int:
    """How low a room is; 0 is the highest."""
    return next((index for index, rooms in enumerate(RANKS) if room in rooms), GROUND)


def imported_rooms(source: str, package: str) -> Iterator[tuple[str, int]]:
    """Each room of codexd that ``source`` imports, also lazily, with the line.

    ``package`` is the dotted package that the module is in, for relative imports.
    """
    for node in ast.walk(ast.parse(source)):
        for name in _imported_names(node, package):
            head, _, rest = name.partition(".")
            if head == "codexd" and rest:
                yield rest.split(".")[0], getattr(node, "lineno", 0)


def _imported_names(node: ast.AST, package: str) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom):
        parts = package.split(".")
        base = ".".join(parts[: len(parts) - node.level + 1]) if node.level else ""
        module = ".".join(part for part in (base, node.module or "") if part)
        # `from codexd import store` names its room only there.
        return [f"{module}.{alias.name}" for alias in node.names]
    return []


def violations(package: Path) -> list[str]:
    """Every import that goes up or across, one line each."""
    return [
        f"{path.relative_to(package.parent)}:{line}: {room} imports {imported}"
        for path in sorted(package.rglob("*.py"))
        for room in [_room(path, package)]
        for imported, line in imported_rooms(path.read_text(), _dotted(path, package))
        if not _is_allowed(room, imported)
    ]


def _room(path: Path, package: Path) -> str:
    return path.relative_to(package).parts[0].removesuffix(".py")


def _dotted(path: Path, package: Path) -> str:
    return ".".join(path.relative_to(package.parent).parent.parts)


def _is_allowed(room: str, imported: str) -> bool:
    if room == "__init__":
        return False
    if imported == room or rank(imported) == GROUND:
        return True
    return rank(imported) > rank(room)


def test_no_room_imports_one_above_or_beside_it() -> None:
    assert violations(PACKAGE) == []


def test_every_room_is_there() -> None:
    rooms = {room for rooms in RANKS for room in rooms}
    missing = {room for room in rooms if not list(PACKAGE.glob(f"{room}*"))}
    assert missing == set()


@pytest.mark.parametrize(
    ("where", "line"),
    [
        ("store/files.py", "import codexd.cli.main"),
        ("store/files.py", "from codexd.eventlog import log"),
        ("store/files.py", "from codexd import eventlog"),
        ("store/files.py", "from ..eventlog.log import EventLog"),
        ("store/files.py", "from .. import eventlog"),
        ("store/files.py", "def late():\n    from codexd.api import server"),
        ("hub/hub.py", "if True:\n    import codexd.api.server as server"),
        ("config.py", "from codexd.store import files"),
        ("rendering/service.py", "from codexd.supervisor.daemon import Daemon"),
        ("__init__.py", "from codexd import config"),
    ],
)
def test_an_import_that_goes_up_is_found(tmp_path: Path, where: str, line: str) -> None:
    path = tmp_path / "codexd" / where
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(line)
    assert len(violations(tmp_path / "codexd")) == 1


@pytest.mark.parametrize(
    ("where", "line"),
    [
        ("store/files.py", "from codexd.contracts import Event"),
        ("store/files.py", "from codexd.store import flusher"),
        ("store/files.py", "from . import flusher"),
        ("api/server.py", "from codexd.link.link import Link"),
        ("cli/main.py", "import codexd.supervisor.daemon"),
        ("config.py", "from codexd import settings, __version__"),
        ("config.py", "import json, codexdata.store"),
    ],
)
def test_an_import_that_goes_down_is_let_through(tmp_path: Path, where: str, line: str) -> None:
    path = tmp_path / "codexd" / where
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(line)
    assert violations(tmp_path / "codexd") == []


def strays(package: Path) -> list[str]:
    """Every import of a package by a room that has no business with it, one line each."""
    return [
        f"{path.relative_to(package.parent)}:{node.lineno}: {room} imports {name}"
        for path in sorted(package.rglob("*.py"))
        for room in [_room(path, package)]
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Import | ast.ImportFrom)
        for name in _imported_names(node, _dotted(path, package))
        if _is_stray(room, name)
    ]


def _is_stray(room: str, name: str) -> bool:
    homes = HOMES.get(name.partition(".")[0])
    if homes is not None and room not in homes:
        return True
    return any(f"{name}.".startswith(f"{banned}.") for banned in BANNED.get(room, ()))


def test_circus_has_its_rooms_and_the_hub_does_no_io() -> None:
    assert strays(PACKAGE) == []


@pytest.mark.parametrize(
    ("where", "line"),
    [
        ("supervisor/daemon.py", "from circus.arbiter import Arbiter"),
        ("cli/ctl.py", "def late():\n    from circus.commands import get_commands"),
        ("keeper/keeper.py", "import zmq.asyncio"),
        ("settings_ini.py", "from zmq import Context"),
        ("hub/hub.py", "from codexd.link.errors import LinkError"),
        ("hub/hub.py", "from ..link import errors"),
        ("hub/hub.py", "from codexd import link"),
        ("hub/core.py", "import asyncio"),
        ("hub/core.py", "import json, os.path"),
        ("hub/core.py", "if True:\n    from time import monotonic"),
        ("hub/core.py", "from websockets.frames import CloseCode"),
    ],
)
def test_a_package_in_a_strange_room_is_found(tmp_path: Path, where: str, line: str) -> None:
    path = tmp_path / "codexd" / where
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(line)
    assert len(strays(tmp_path / "codexd")) == 1


@pytest.mark.parametrize(
    ("where", "line"),
    [
        ("circus_ext/watcher.py", "from circus.watcher import Watcher"),
        ("client/circus.py", "def late():\n    import zmq"),
        ("keeper/keeper.py", "from codexd.keeper.circusd import Circusd"),
        ("keeper/keeper.py", "import asyncio, os"),
        ("hub/hub.py", "import msgspec, timeit, codexd.linked"),
    ],
)
def test_a_package_at_home_is_let_through(tmp_path: Path, where: str, line: str) -> None:
    path = tmp_path / "codexd" / where
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(line)
    assert strays(tmp_path / "codexd") == []


LIGHT = ("config", "status", "events", "logs", "metrics")
HEAVY = ("zmq", "tornado", "circus", "websockets", "jinja2", "prometheus_client")
RUN_LIGHT = """
import sys
from codexd.cli.main import main
for command in {commands!r}:
    try:
        main([command])
    except SystemExit:
        pass
print("heavy:", *(name for name in {heavy!r} if name in sys.modules))
"""


def heavy_modules(cwd: Path, *commands: str) -> str:
    """Which heavy packages a process has loaded after it ran these commands."""
    code = RUN_LIGHT.format(commands=commands, heavy=HEAVY)
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()[-1]


def test_commands_that_only_read_load_nothing_heavy(tmp_path: Path) -> None:
    assert heavy_modules(tmp_path, *LIGHT) == "heavy:"


def test_a_heavy_command_is_found(tmp_path: Path) -> None:
    assert heavy_modules(tmp_path, "render-circus") == "heavy: jinja2"


# As circus starts it (circus.plugins.main): by name, in a process of its own.
RUN_PLUGIN = """
import sys
from circus.plugins import main
from circus.util import resolve_name
resolve_name("codexd.circus_ext.plugin.CodexdPlugin")
{planted}
print("loaded:", *(name for name in {unwanted!r} if name in sys.modules))
"""


def modules_of_a_plugin(planted: str = "") -> str:
    code = RUN_PLUGIN.format(planted=planted, unwanted=NOT_IN_THE_PLUGIN)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()[-1]


def test_the_plugins_process_renders_nothing() -> None:
    assert modules_of_a_plugin() == "loaded:"


def test_a_plugin_that_renders_is_found() -> None:
    planted = "import codexd.rendering.templates"
    assert modules_of_a_plugin(planted) == "loaded: jinja2 codexd.rendering"
