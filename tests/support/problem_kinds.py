"""Which kinds of problems a module answers with, read from its text."""

from __future__ import annotations

import ast
from collections.abc import Iterator


class Unclear(Exception):
    """A kind that cannot be told without running the code; the text says where."""


def problem_kinds(source: str) -> Iterator[str]:
    """The second argument of every `Problem(…)`, also where a variable of its function has it."""
    tree = ast.parse(source)
    for function in ast.walk(tree):
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
            for node in ast.walk(function):
                if isinstance(node, ast.Call) and _is_problem(node.func):
                    yield from _kind(node, function)


def _is_problem(called: ast.expr) -> bool:
    return isinstance(called, ast.Name) and called.id == "Problem"


def _kind(call: ast.Call, function: ast.AST) -> list[str]:
    named = [keyword.value for keyword in call.keywords if keyword.arg == "kind"]
    given = (named or call.args[1:2])[0]
    if isinstance(given, ast.Name):
        found = [value for name, value in _assigned(function) if name == given.id]
    else:
        found = [given]
    kinds = [kind for value in found for kind in _texts(value)]
    if not kinds:
        raise Unclear(f"line {call.lineno}: {ast.unparse(given)}")
    return kinds


def _assigned(function: ast.AST) -> Iterator[tuple[str, ast.expr]]:
    for node in ast.walk(function):
        if isinstance(node, ast.Assign):
            for target in node.targets:
                if isinstance(target, ast.Name):
                    yield target.id, node.value


def _texts(value: ast.expr) -> list[str]:
    if isinstance(value, ast.IfExp):
        return [*_texts(value.body), *_texts(value.orelse)]
    is_text = isinstance(value, ast.Constant) and isinstance(value.value, str)
    return [value.value] if is_text else []  # type: ignore[attr-defined]
