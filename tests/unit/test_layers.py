"""Higher rooms import lower ones only, and what must start quickly loads nothing heavy."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.rooms import BANNED, BUILTIN_IO, HOMES, NOT_IN_THE_PLUGIN, ONLY, ROOMS

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


def unranked(package: Path) -> list[str]:
    """Every directory of modules that is in no row of the rooms."""
    return [path.parent.name for path in package.glob("*/*.py") if rank(path.parent.name) == GROUND]


def test_every_room_is_there_and_has_a_rank() -> None:
    rooms = {room for rooms in RANKS for room in rooms}
    modules = {path.stem for path in PACKAGE.iterdir() if path.suffix == ".py" or path.is_dir()}
    assert rooms - modules == set()
    assert unranked(PACKAGE) == []


def test_a_room_without_a_rank_is_found(tmp_path: Path) -> None:
    (tmp_path / "attic").mkdir()
    (tmp_path / "attic" / "__init__.py").touch()
    assert unranked(tmp_path) == ["attic"]


def planted(tmp_path: Path, where: str, line: str) -> None:
    """Make a package with this line in one of its modules."""
    path = tmp_path / "codexd" / where
    path.parent.mkdir(parents=True)
    path.write_text(line)


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
    planted(tmp_path, where, line)
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
    planted(tmp_path, where, line)
    assert violations(tmp_path / "codexd") == []


def strays(package: Path) -> list[str]:
    """Every import of a package by a room that has no business with it, one line each.

    And whatever a room that does no I/O calls without an import.
    """
    return [
        f"{path.relative_to(package.parent)}:{node.lineno}: {room} imports {name}"
        for path in sorted(package.rglob("*.py"))
        for room in [_room(path, package)]
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Import | ast.ImportFrom | ast.Call)
        for name in _used_names(node, _dotted(path, package))
        if _is_stray(room, name, package)
    ]


def _used_names(node: ast.Import | ast.ImportFrom | ast.Call, package: str) -> list[str]:
    if not isinstance(node, ast.Call):
        return _imported_names(node, package)
    name = getattr(node.func, "id", "")
    return [name] if name in BUILTIN_IO else []


def _is_stray(room: str, name: str, package: Path) -> bool:
    homes = HOMES.get(name.partition(".")[0])
    if homes is not None and room not in homes:
        return True
    if room in ONLY:
        return not _is_pure(name, (*ONLY[room], f"codexd.{room}"), package)
    return _is_in(name, BANNED.get(room, ()))


def _is_in(name: str, packages: tuple[str, ...]) -> bool:
    return any(f"{name}.".startswith(f"{package}.") for package in packages)


def _is_pure(name: str, allowed: tuple[str, ...], package: Path) -> bool:
    if _is_in(name, allowed):
        return True
    head, _, rest = name.partition(".")
    tool = package / f"{rest.partition('.')[0]}.py"
    if head != "codexd" or rank(tool.stem) != GROUND or not tool.is_file():
        return False
    nodes = ast.walk(ast.parse(tool.read_text()))
    return all(
        _is_pure(imported, allowed, package)
        for node in nodes
        for imported in _imported_names(node, "codexd")
    )


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
        ("hub/core.py", "from codexd.platform.files import read_whole"),
        ("hub/core.py", "import random"),
        ("hub/core.py", "from datetime import datetime"),
        ("hub/core.py", "from codexd.tool import look"),
        ("hub/core.py", "from codexd import contracts_too"),
        ("hub/core.py", "def f(): open('x')"),
        ("records/records.py", "from asyncio import Lock"),
        ("store/state.py", "def late():\n    import tornado.ioloop"),
        ("eventlog/log.py", "import concurrent.futures"),
        ("circus_ext/channel.py", "from codexd.client.http import ask_hub"),
        ("supervisor/daemon.py", "from http.client import HTTPConnection"),
    ],
)
def test_a_package_in_a_strange_room_is_found(tmp_path: Path, where: str, line: str) -> None:
    planted(tmp_path, where, line)
    (tmp_path / "codexd" / "tool.py").write_text("import os")
    assert len(strays(tmp_path / "codexd")) == 1


@pytest.mark.parametrize(
    ("where", "line"),
    [
        ("circus_ext/watcher.py", "from circus.watcher import Watcher"),
        ("client/circus.py", "def late():\n    import zmq"),
        ("keeper/keeper.py", "from codexd.keeper.circusd import Circusd"),
        ("keeper/keeper.py", "import asyncio, os"),
        ("hub/hub.py", "import msgspec, functools"),
        ("hub/hub.py", "from codexd.tool import count"),
        ("hub/hub.py", "from codexd.clock import now_iso\nfrom . import core"),
        ("hub/hub.py", "def f(self): self.open(); self._link.print()"),
        ("records/records.py", "import os, asynciox, logging"),
        ("keeper/keeper.py", "print('x')"),
    ],
)
def test_a_package_at_home_is_let_through(tmp_path: Path, where: str, line: str) -> None:
    planted(tmp_path, where, line)
    (tmp_path / "codexd" / "tool.py").write_text("from collections import Counter")
    assert strays(tmp_path / "codexd") == []


LIGHT = ("config", "status", "events", "logs", "metrics")
HEAVY = ("zmq", "tornado", "circus", "websockets", "jinja2", "prometheus_client", "rich")
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
