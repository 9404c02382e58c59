"""Ids that people type: shown as short as they can be, and found again by what was typed."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable

from codexd.cli.options import CliError
from codexd.cli.terminal import one_line

# What codexd's own ids begin with; the ends of all ids are random, their beginnings may be a time.
_PREFIXES = ("session-", "approval-")
_SHORTEST = 6
_NAMED = 8


def shortened(ids: Collection[str]) -> Callable[[str], str]:
    """Shows each of ``ids`` by its end, as long as it must be to tell them all apart."""
    longest = max(map(len, ids), default=0)
    size = _SHORTEST
    while size < longest and len({id_[-size:] for id_ in ids}) < len(set(ids)):
        size += 1
    return lambda id_: id_[-size:]


def find_id(typed: str, ids: Iterable[str], noun: str) -> str:
    """The one of ``ids`` that is ``typed``, or begins or ends with it.

    Raises:
        CliError: there is none, or more than one; ``noun`` is what they are.
    """
    known = list(dict.fromkeys(ids))
    if typed in known:
        return typed
    found = [id_ for id_ in known if typed and _is_meant(typed, id_)]
    if len(found) == 1:
        return found[0]
    shown = one_line(typed)
    if not found:
        raise CliError(f'There is no {noun} "{shown}": `codexd {noun}s` lists them.')
    named = ", ".join(found[:_NAMED]) + (", …" if len(found) > _NAMED else "")
    raise CliError(f'"{shown}" may be any of {len(found)} {noun}s: {named}.')


def _is_meant(typed: str, id_: str) -> bool:
    bare = next((id_.removeprefix(word) for word in _PREFIXES if id_.startswith(word)), id_)
    return id_.startswith(typed) or id_.endswith(typed) or bare.startswith(typed)
