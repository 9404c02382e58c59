"""Which lines no test would miss: `python -m tests.support.mutate MODULE [--tests PATH...]`.

Changes one thing in MODULE (a file of the package) at a time, runs the tests, and prints every
change that they let pass. By hand: a module takes minutes. Exit 1 if more than one in ten passes.
"""

from __future__ import annotations

import argparse
import ast
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
# How long the tests may take without any change; with one, so many times as long as they took.
_TIMEOUT_S = 300.0
_TIMES = 5
_GOOD = 0.9

_COMPARES: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
}
_SUMS: dict[type[ast.operator], type[ast.operator]] = {ast.Add: ast.Sub, ast.Sub: ast.Add}


@dataclass(frozen=True, slots=True)
class Mutant:
    """One change: where it is, what it does, and the source with it."""

    line: int
    what: str
    source: str


def mutants(source: str) -> Iterator[Mutant]:
    """Every change of ``source``, one at a time."""
    tree = ast.parse(source)
    for path, node in _nodes(tree, ()):
        for what, change in _changes(node):
            copy = deepcopy(tree)
            _replace(copy, path, change)
            yield Mutant(
                getattr(node, "lineno", 0), what, ast.unparse(ast.fix_missing_locations(copy))
            )


Path_ = tuple[tuple[str, int | None], ...]
Change = Callable[[ast.AST], ast.AST]


def _nodes(node: ast.AST, path: Path_) -> Iterator[tuple[Path_, ast.AST]]:
    yield path, node
    for name, value in ast.iter_fields(node):
        # Annotations and decorators do nothing that a unit test sees.
        if name in ("annotation", "returns", "decorator_list"):
            continue
        if isinstance(value, list):
            for index, entry in enumerate(value):
                if isinstance(entry, ast.AST) and not _is_of_types(entry):
                    yield from _nodes(entry, (*path, (name, index)))
        elif isinstance(value, ast.AST):
            yield from _nodes(value, (*path, (name, None)))


def _is_of_types(node: ast.AST) -> bool:
    # What says nothing to who runs, only to who checks the types.
    return isinstance(node, ast.keyword) and node.arg in ("frozen", "kw_only")


def _replace(tree: ast.AST, path: Path_, change: Change) -> None:
    node = tree
    for name, index in path[:-1]:
        value = getattr(node, name)
        node = value if index is None else value[index]
    name, index = path[-1]
    if index is None:
        setattr(node, name, change(getattr(node, name)))
    else:
        getattr(node, name)[index] = change(getattr(node, name)[index])


def _changes(node: ast.AST) -> Iterator[tuple[str, Change]]:
    yield from _changed_expressions(node)
    yield from _changed_statements(node)


def _changed_expressions(node: ast.AST) -> Iterator[tuple[str, Change]]:
    match node:
        case ast.Compare(ops=[op]) if type(op) in _COMPARES:
            other = _COMPARES[type(op)]
            yield f"{type(op).__name__} for {other.__name__}", _with(ops=[other()])
        case ast.BoolOp(op=ast.And()):
            yield "and for or", _with(op=ast.Or())
        case ast.BoolOp(op=ast.Or()):
            yield "or for and", _with(op=ast.And())
        case ast.UnaryOp(op=ast.Not(), operand=operand):
            yield "no not", lambda _: operand
        case ast.BinOp(op=op) | ast.AugAssign(op=op) if type(op) in _SUMS:
            yield "plus for minus", _with(op=_SUMS[type(op)]())
        case ast.Constant(value=bool(value)):
            yield f"not {value}", _with(value=not value)
        case ast.Constant(value=int(value)):
            yield f"{value} + 1", _with(value=value + 1)


def _changed_statements(node: ast.AST) -> Iterator[tuple[str, Change]]:
    match node:
        case ast.Return(value=ast.expr() as value) if not _is_nothing(value):
            yield "return None", _with(value=ast.Constant(None))
        case ast.Expr(value=ast.Call()):
            yield "no call", lambda _: ast.Pass()
        case ast.Assign(targets=[ast.Attribute()]) | ast.Delete():
            yield "no assignment", lambda _: ast.Pass()
        case ast.If() | ast.While() | ast.IfExp():
            yield "always", _with(test=ast.Constant(True))
            yield "never", _with(test=ast.Constant(False))
        case ast.Continue() | ast.Break():
            yield "no jump", lambda _: ast.Pass()


def _is_nothing(node: ast.expr) -> bool:
    # Whoever asks whether something is so does not tell these two apart.
    return isinstance(node, ast.Constant) and (node.value is None or node.value is False)


def _with(**fields: object) -> Change:
    def change(node: ast.AST) -> ast.AST:
        for name, value in fields.items():
            setattr(node, name, value)
        return node

    return change


class Lab:
    """A copy of the package, in which one module is changed again and again."""

    def __init__(self, place: Path, module: Path, tests: list[str]) -> None:
        for name in ("codexd", "templates", "tests", "docs"):
            shutil.copytree(ROOT / name, place / name, ignore=shutil.ignore_patterns("*.pyc"))
        shutil.copy(ROOT / "pyproject.toml", place)
        self._place = place
        self._target = place / module
        self._tests = tests
        self._timeout_s = _TIMEOUT_S

    def passes(self, source: str) -> bool:
        """Whether the tests pass with the module as it is; how long they take is the measure."""
        begun = time.monotonic()
        is_well = self.survives(source)
        self._timeout_s = _TIMES * (time.monotonic() - begun)
        return is_well

    def survives(self, source: str) -> bool:
        """Whether the tests pass with this source in place of the module's."""
        self._target.write_text(source)
        child = os.fork()
        if child == 0:
            os.setsid()
            os._exit(self._run())
        deadline = time.monotonic() + self._timeout_s
        while time.monotonic() < deadline:
            pid, status = os.waitpid(child, os.WNOHANG)
            if pid:
                return status == 0
            time.sleep(0.02)
        # A change that makes it run for ever is one that the tests see.
        os.killpg(child, signal.SIGKILL)
        os.waitpid(child, 0)
        return False

    def _run(self) -> int:
        import pytest

        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, 1)
        os.dup2(null, 2)
        # Not the checkout, which `python -m` has put in front.
        sys.path[0] = str(self._place)
        sys.dont_write_bytecode = True
        for name in [name for name in sys.modules if name.split(".")[0] in ("codexd", "tests")]:
            del sys.modules[name]
        os.chdir(self._place)
        options = ["-x", "-q", "-p", "no:cacheprovider", "-p", "no:randomly"]
        return int(pytest.main([*options, *self._tests]))


def preload() -> None:
    """Load what every run needs, and nothing of codexd: each child is a fork of this process."""
    import hypothesis  # noqa: F401
    import jsonschema  # noqa: F401
    import msgspec  # noqa: F401
    import pytest  # noqa: F401


def arguments() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("module", type=Path, help="codexd/hub/threads.py, say")
    parser.add_argument(
        "--tests", action="extend", nargs="+", metavar="PATH", help="default: tests/unit"
    )
    parser.add_argument("--sample", type=int, metavar="N", help="only N changes, chosen at random")
    parser.add_argument("--seed", type=int, default=1)
    return parser


def main() -> int:
    """Change the module that the command line names."""
    given = arguments().parse_args()
    source = (ROOT / given.module).read_text()
    found = list(mutants(source))
    if given.sample and given.sample < len(found):
        found = random.Random(given.seed).sample(found, given.sample)
    preload()
    with tempfile.TemporaryDirectory() as place:
        lab = Lab(Path(place), given.module, given.tests or ["tests/unit"])
        if not lab.passes(source):
            print("The tests fail without any change.")
            return 2
        return _report(given.module, source, found, lab)


def _report(module: Path, source: str, found: list[Mutant], lab: Lab) -> int:
    survivors = 0
    lines = source.splitlines()
    for number, mutant in enumerate(sorted(found, key=lambda one: one.line), 1):
        print(f"\r{number} of {len(found)}, {survivors} survive ", end="", file=sys.stderr)
        if lab.survives(mutant.source):
            survivors += 1
            text = lines[mutant.line - 1].strip() if mutant.line else ""
            print(f"{module}:{mutant.line}: {mutant.what}: {text}", flush=True)
    killed = len(found) - survivors
    print(f"\n{module}: {killed} of {len(found)} changes are seen", flush=True)
    return 0 if killed >= _GOOD * len(found) else 1


if __name__ == "__main__":
    sys.exit(main())
