"""A thread as one reads it: who said what, and a line for each thing that was done."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final, Literal, NamedTuple

from codexd.cli.terminal import cells, harmless, one_line
from codexd.cli.transcript import error_text, item_line

Kind = Literal["user", "agent", "act", "turn", "trouble"]

# What is looked at is the end: nobody scrolls through all of a thread of days.
_MOST_TURNS: Final = 50
_MOST_CHARS: Final = 20_000


class Said(NamedTuple):
    """A line, and whose it is."""

    kind: Kind
    text: str


class ThreadText:
    """The last turns of a thread, as the server describes it (`thread/read`)."""

    def __init__(self, thread: dict[str, Any]) -> None:
        self._pieces = list(_pieces(thread))
        self._lines: list[Said] = []
        self._width = 0
        self.title = _title(thread)

    def lines(self, width: int) -> list[Said]:
        """All of it in lines that take at most ``width`` columns."""
        if width != self._width:
            self._width = width
            self._lines = [
                Said(piece.kind, line)
                for piece in self._pieces
                for line in wrapped(piece.text, width)
            ]
        return self._lines


def _title(thread: dict[str, Any]) -> str:
    text = thread.get("name") or thread.get("preview") or thread.get("id") or ""
    return one_line(" ".join(str(text).split()))


def _pieces(thread: dict[str, Any]) -> Iterator[Said]:
    turns = thread.get("turns")
    turns = [turn for turn in turns if isinstance(turn, dict)] if isinstance(turns, list) else []
    if not turns:
        yield Said("turn", "It has no turn yet.")
    if len(turns) > _MOST_TURNS:
        yield Said("turn", f"({len(turns) - _MOST_TURNS} earlier turns are not shown.)")
    for turn in turns[-_MOST_TURNS:]:
        items = turn.get("items")
        for item in items if isinstance(items, list) else []:
            if isinstance(item, dict):
                yield from _said(item)
        yield from _end(turn)
        yield Said("turn", "")


def _said(item: dict[str, Any]) -> Iterator[Said]:
    kind = item.get("type")
    if kind == "userMessage":
        yield Said("user", f"> {_cut(_user_text(item))}")
    elif kind in ("agentMessage", "plan"):
        yield Said("agent", _cut(str(item.get("text") or "")))
    else:
        line = item_line(item)
        if line is not None:
            yield Said("act", line)


def _user_text(item: dict[str, Any]) -> str:
    content = item.get("content")
    parts = (
        [part for part in content if isinstance(part, dict)] if isinstance(content, list) else []
    )
    return " ".join(str(part.get("text") or f"[{part.get('type')}]") for part in parts)


def _end(turn: dict[str, Any]) -> Iterator[Said]:
    status, error = turn.get("status"), turn.get("error")
    if isinstance(error, dict) and error.get("message"):
        yield Said("trouble", f"{one_line(str(status))}: {error_text(error)}")
    elif status == "inProgress":
        yield Said("turn", "(runs)")
    elif status not in (None, "completed"):
        yield Said("trouble", f"({one_line(str(status))})")


def _cut(text: str) -> str:
    text = harmless(text).expandtabs(4).rstrip()
    return text if len(text) <= _MOST_CHARS else f"{text[:_MOST_CHARS]} …"


def wrapped(text: str, width: int) -> Iterator[str]:
    """The lines of a text, broken between words where that can be."""
    for line in text.split("\n"):
        rest = line
        while (at := _break(rest, width)) is not None:
            yield rest[:at].rstrip()
            rest = rest[at:].lstrip(" ")
        yield rest


def _break(text: str, width: int) -> int | None:
    """Where a text that is too wide is broken, never before its first character."""
    taken = 0
    for at, char in enumerate(text):
        taken += cells(char)
        if taken > width:
            space = text.rfind(" ", 0, at + 1)
            at = space if space > 0 and text[:space].strip() else max(at, 1)
            return at if at < len(text) else None
    return None
