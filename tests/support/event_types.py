"""Which types of events a module records, read from its source."""

from __future__ import annotations

import ast
import itertools
from collections.abc import Iterator

# Called with (level, type, message, …).
_RECORDING = ("event", "record", "_record", "Emit")
_STREAMS = {"stdout", "stderr"}

_Function = ast.FunctionDef | ast.AsyncFunctionDef


class Unclear(ValueError):
    """A type that cannot be told from the source."""


def recorded_types(source: str) -> set[str]:
    """Every type that ``source`` can record.

    Follows a parameter to the calls of its function within the module.

    Raises:
        Unclear: naming the line.
    """
    tree = ast.parse(source)
    return {
        name
        for function in ast.walk(tree)
        if isinstance(function, _Function)
        for call in _calls(function, _RECORDING)
        if len(call.args) >= 3
        for name in _values(call.args[1], function, tree)
    }


def _calls(tree: ast.AST, names: tuple[str, ...]) -> Iterator[ast.Call]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            name = getattr(node.func, "attr", getattr(node.func, "id", None))
            if name in names:
                yield node


def _values(node: ast.expr, function: _Function, tree: ast.AST) -> set[str]:
    """Every text that the expression can be."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return {node.value}
    if isinstance(node, ast.IfExp):
        return _values(node.body, function, tree) | _values(node.orelse, function, tree)
    if isinstance(node, ast.JoinedStr):
        parts = [_values(part, function, tree) for part in node.values]
        return {"".join(choice) for choice in itertools.product(*parts)}
    if isinstance(node, ast.FormattedValue):
        return _values(node.value, function, tree)
    if ast.unparse(node) in ("stream", "self.stream"):
        return _STREAMS
    if isinstance(node, ast.Name):
        return _arguments(node.id, function, tree)
    raise Unclear(f"line {node.lineno}: {ast.unparse(node)}")


def _arguments(name: str, function: _Function, tree: ast.AST) -> set[str]:
    """What the calls of ``function`` give for its parameter ``name``."""
    parameters = [argument.arg for argument in function.args.args if argument.arg != "self"]
    if _is_forwarded(name, function):
        return set()
    if name not in parameters:
        raise Unclear(f"line {function.lineno}: {name}")
    index = parameters.index(name)
    return {
        value
        for caller in ast.walk(tree)
        if isinstance(caller, _Function)
        for call in _calls(caller, (function.name,))
        if len(call.args) > index
        for value in _values(call.args[index], caller, tree)
    }


def _is_forwarded(name: str, function: _Function) -> bool:
    """Whether ``name`` comes out of an Emit that was made, and is counted, elsewhere."""
    return any(
        isinstance(captured, ast.MatchAs) and captured.name == name
        for node in ast.walk(function)
        if isinstance(node, ast.MatchClass) and ast.unparse(node.cls) == "Emit"
        for captured in ast.walk(node)
    )
