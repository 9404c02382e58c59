"""`Client` and `AsyncClient`: the same names, the same arguments, the same words."""

from __future__ import annotations

import inspect
from typing import Any

import pytest

from codexd.client import aio, sync

PAIRS = [
    (sync.Client, aio.AsyncClient),
    (sync.Threads, aio.AsyncThreads),
    (sync.Child, aio.AsyncChild),
]


def public(kind: type) -> dict[str, Any]:
    """The methods that a program calls, and the constructor."""
    methods = inspect.getmembers(kind, inspect.isfunction)
    return {name: method for name, method in methods if not name.startswith("_")}


@pytest.mark.parametrize(("waits", "awaited"), PAIRS)
def test_whoever_knows_one_knows_the_other(waits: type, awaited: type) -> None:
    assert list(public(waits)) == list(public(awaited))
    for name, method in public(waits).items():
        other = public(awaited)[name]
        one, two = inspect.signature(method), inspect.signature(other)
        assert list(one.parameters.values()) == list(two.parameters.values()), name
        assert method.__doc__ == other.__doc__, name
        answers = str(one.return_annotation), str(two.return_annotation)
        is_stream = answers[0].startswith("Generator")
        assert is_stream or answers[0] == answers[1], name
        assert is_stream or inspect.iscoroutinefunction(other), name


def test_they_are_made_alike() -> None:
    one, two = inspect.signature(sync.Client), inspect.signature(aio.AsyncClient)
    assert list(one.parameters.values()) == list(two.parameters.values())
