"""Who takes the whole configuration: those that read most of it, and nobody else unseen."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[2] / "codexd"

# Each command is given all its settings; a rendered file holds them all.
ROOMS = ("cli", "rendering")
MODULES = ("config.py", "settings_ini.py")

# Else: where a configuration becomes parts that are told what they need, each for itself. Whoever
# reads one or two values of it takes those.
TAKERS = {
    # The daemon is put together, by codexd itself and under a stock circusd.
    "supervisor/daemon.py": {"Daemon.__init__"},
    "supervisor/readiness.py": {"wait_until_up", "wait_for_process"},
    # All of it goes into circus.ini.
    "supervisor/ini.py": {"begin_circus_ini", "circus_ini"},
    "circus_ext/arbiter.py": {"prepare", "_finish", "_channel"},
    "circus_ext/hooks.py": {"adopt", "adopt_spare"},
    "runtime.py": {"take_over"},
    "daemons/membership.py": {"enter"},
    "daemons/listing.py": {"make_entry"},
    # So is the plugin.
    "circus_ext/plugin.py": {"CodexdPlugin._settings"},
    "keeper/assembly.py": {"assemble"},
    # It is told to whoever asks.
    "keeper/status.py": {"Status.__init__"},
    # The files are opened, or read: their first records hold what is configured.
    "records/records.py": {"open_records", "open_as_daemon", "record_end", "_open"},
    "store/state.py": {"StateStore.open"},
    "store/identity.py": {"ensure_identity", "read_identity"},
    "store/snapshot.py": {"read_snapshot"},
    # A daemon is looked at, which may have been told other things than this process.
    "client/find.py": {"DaemonPlace.config", "_Search._running", "_Search._serving"},
    "client/live.py": {"Live.config", "look", "running_config"},
    "client/circus.py": {"settings_of"},
    "doctor/scene.py": {"Scene.config"},
    "service/file.py": {"ServiceFile.config"},
    "client/service.py": {"find_obstacle", "_find_other", "wait_for_service"},
}
# A function with fewer parts of it, which hands it on to nobody, does without.
LEAST = 3


def takers(source: str) -> Iterator[tuple[str, ast.AST]]:
    """The functions with a parameter that is a Config, and the attributes that are one."""
    yield from _takers(ast.parse(source), "")


def _takers(node: ast.AST, outer: str) -> Iterator[tuple[str, ast.AST]]:
    for child in ast.iter_child_nodes(node):
        name = outer
        if isinstance(child, ast.ClassDef):
            name = f"{outer}{child.name}."
        elif isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
            if _parameters(child):
                yield f"{outer}{child.name}", child
            # What a method says of itself belongs to its class.
            name = outer if outer.endswith(".") else f"{child.name}."
        elif isinstance(child, ast.AnnAssign) and outer and _is_config(child.annotation):
            yield f"{outer}{ast.unparse(child.target).removeprefix('self.')}", child
        yield from _takers(child, name)


def _parameters(function: ast.FunctionDef | ast.AsyncFunctionDef) -> list[str]:
    given = function.args
    every = [*given.posonlyargs, *given.args, *given.kwonlyargs, given.vararg, given.kwarg]
    return [argument.arg for argument in every if argument and _is_config(argument.annotation)]


def _is_config(annotation: ast.expr | None) -> bool:
    if isinstance(annotation, ast.Constant) and isinstance(annotation.value, str):
        annotation = ast.parse(annotation.value, mode="eval").body
    return annotation is not None and _names_config(annotation)


def _names_config(annotation: ast.AST) -> bool:
    if getattr(annotation, "id", getattr(annotation, "attr", None)) == "Config":
        return True
    if isinstance(annotation, ast.Subscript) and getattr(annotation.value, "id", "") == "Callable":
        # Who is called with one says so itself.
        return False
    return any(_names_config(part) for part in ast.iter_child_nodes(annotation))


def needs_it(taker: ast.AST) -> bool:
    """Whether it reads at least three parts of the configuration, or hands all of it on."""
    if not isinstance(taker, ast.FunctionDef | ast.AsyncFunctionDef):
        return True
    return all(_needs(taker, name) for name in _parameters(taker))


def _needs(function: ast.AST, name: str) -> bool:
    parts, reads = set(), 0
    for node in ast.walk(function):
        if isinstance(node, ast.Attribute) and getattr(node.value, "id", None) == name:
            parts.add(node.attr)
            reads += 1
    uses = sum(
        isinstance(node, ast.Name) and node.id == name and isinstance(node.ctx, ast.Load)
        for node in ast.walk(function)
    )
    return len(parts) >= LEAST or uses > reads


def all_takers(package: Path) -> dict[str, dict[str, ast.AST]]:
    """By module, without the rooms and modules that may."""
    found = {}
    for path in sorted(package.rglob("*.py")):
        where = path.relative_to(package)
        if where.parts[0] not in (*ROOMS, *MODULES):
            found[str(where)] = dict(takers(path.read_text()))
    return {where: those for where, those in found.items() if those}


def test_who_takes_the_whole_configuration() -> None:
    assert {where: set(those) for where, those in all_takers(PACKAGE).items()} == TAKERS


def test_they_need_it() -> None:
    idle = {
        f"{where}: {name}"
        for where, those in all_takers(PACKAGE).items()
        for name, taker in those.items()
        if not needs_it(taker)
    }
    assert idle == set()


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("def f(config: Config): ...", "f"),
        ("async def f(*, config: 'Config | None' = None): ...", "f"),
        ("def f(*configs: config.Config): ...", "f"),
        ("def f(configs: Sequence[Config]): ...", "f"),
        ("class A:\n    def __init__(self, all: Config): ...", "A.__init__"),
        ("class A:\n    all: Config", "A.all"),
        ("class A:\n    def __init__(self):\n        self._all: Config = read()", "A._all"),
        ("def f():\n    def g(config: Config): ...", "f.g"),
    ],
)
def test_a_new_one_is_found(source: str, name: str) -> None:
    assert [found for found, _ in takers(source)] == [name]


def test_one_that_calls_another_with_it_is_none() -> None:
    assert list(takers("def f(g: Callable[[Config], None], other: Configured): ...")) == []


@pytest.mark.parametrize(
    ("body", "needs"),
    [
        ("return config.paths, config.server.mode", False),
        ("return config.paths, config.server, config.policy.restart", True),
        ("return other(config)", True),
        ("return config.paths, replace(config)", True),
        ("return 7", False),
    ],
)
def test_one_that_could_do_with_less_is_found(body: str, needs: bool) -> None:
    (taker,) = takers(f"def f(config: Config): {body}")
    assert needs_it(taker[1]) is needs
