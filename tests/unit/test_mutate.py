from __future__ import annotations

import ast

import pytest

from tests.support.mutate import mutants


@pytest.mark.parametrize(
    ("source", "changed"),
    [
        ("a == b", ["a != b"]),
        ("a < b", ["a <= b"]),
        ("a is None", ["a is not None"]),
        ("a and b", ["a or b"]),
        ("not a", ["a"]),
        ("x = 1", ["x = 2"]),
        ("x = True", ["x = False"]),
        ("f(a)", ["pass"]),
        ("self.x = a", ["pass"]),
        ("x += a", ["x -= a"]),
        ("def f() -> int:\n    return a", ["def f() -> int:\n    return None"]),
        ("def f() -> bool:\n    return False", ["def f() -> bool:\n    return True"]),
        ("if a:\n    x = b", ["if True:\n    x = b", "if False:\n    x = b"]),
        ("while a:\n    break", ["while True:\n    break", "while False:\n    break"]),
    ],
)
def test_each_change_is_one_change(source: str, changed: list[str]) -> None:
    found = [mutant.source for mutant in mutants(source)]
    assert found[: len(changed)] == changed


@pytest.mark.parametrize(
    "source",
    [
        "def f(a: 'x == y' = None): pass",
        "'text'",
        "import a",
        "class A(B, frozen=True, kw_only=True): pass",
        "def f():\n    return None",
    ],
)
def test_what_does_nothing_is_left_alone(source: str) -> None:
    assert list(mutants(source)) == []


def test_the_line_is_told_and_the_rest_is_as_it_was() -> None:
    source = "a = b\nc = d == e\nf = g\n"
    (mutant,) = mutants(source)
    assert mutant.line == 2
    assert ast.unparse(ast.parse(source.replace("==", "!="))) == mutant.source
