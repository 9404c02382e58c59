"""A turn as people read it: what the agent says, and a line for each thing that it did.

Nothing here reads or writes: notifications go in, what is to be shown comes out.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final

from codexd.cli.terminal import harmless, one_line

Item = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Said:
    """A piece of what the agent says, as it is to be printed."""

    text: str


@dataclass(frozen=True, slots=True)
class Note:
    """A line about what happened; ``went_well`` is None where that does not count."""

    text: str
    went_well: bool | None = None


Shown = Said | Note

_WELL: Final = ("completed", "inProgress")


class Transcript:
    """One turn. ``clock`` is for things that do not tell themselves how long they took.

    Files below ``root`` are shown from there.
    """

    def __init__(self, root: str = "", clock: Callable[[], float] = time.monotonic) -> None:
        self._root = root
        self._clock = clock
        self._said: dict[str, str] = {}
        self._begun: dict[str, float] = {}
        self._done: set[str] = set()
        self._speaks: str | None = None

    @property
    def last_words(self) -> str | None:
        """What the agent has said last, as far as it came."""
        return next(reversed(self._said.values()), None)

    def hear(self, notification: dict[str, Any]) -> Iterator[Shown]:
        """What a notification has to show."""
        params = notification.get("params")
        if not isinstance(params, dict):
            return
        method, item = notification.get("method"), params.get("item")
        if method == "item/agentMessage/delta":
            yield from self._say(str(params.get("itemId")), str(params.get("delta") or ""))
        elif method == "error" and params.get("willRetry"):
            yield Note(f"{error_text(params.get('error'))} It is tried again.", False)
        elif isinstance(item, dict) and method == "item/started":
            self._begun[str(item.get("id"))] = self._clock()
        elif isinstance(item, dict) and method == "item/completed":
            yield from self.complete(item)

    def complete(self, item: Item) -> Iterator[Shown]:
        """What is still to be shown of an item that has ended."""
        id_ = str(item.get("id"))
        if id_ in self._done:
            return
        self._done.add(id_)
        if item.get("type") == "agentMessage":
            text, said = str(item.get("text") or ""), self._said.get(id_, "")
            if text.startswith(said):
                yield from self._say(id_, text[len(said) :])
            yield from self._fall_silent()
            return
        line = item_line(item, self._took(item, id_), self._root)
        if line is not None:
            yield Note(line, item.get("status", "completed") in _WELL)

    def _took(self, item: Item, id_: str) -> float | None:
        if isinstance(item.get("durationMs"), int):
            return float(item["durationMs"]) / 1000
        began = self._begun.get(id_)
        return None if began is None else self._clock() - began

    def _say(self, id_: str, text: str) -> Iterator[Shown]:
        if not text:
            return
        if self._speaks != id_:
            yield from self._fall_silent()
            self._speaks = id_
        self._said[id_] = self._said.get(id_, "") + text
        yield Said(harmless(text))

    def _fall_silent(self) -> Iterator[Shown]:
        if self._speaks is not None:
            ends_a_line = self._said[self._speaks].endswith("\n")
            self._speaks = None
            yield Said("" if ends_a_line else "\n")


def item_line(item: Item, took_s: float | None = None, root: str = "") -> str | None:
    """A line for what the agent did: what, how it ended, how long it took. None for the rest."""
    if took_s is None and isinstance(item.get("durationMs"), int):
        took_s = float(item["durationMs"]) / 1000
    what = _what(item, root)
    if what is None:
        return None
    notes = [] if took_s is None else [seconds(took_s)]
    status, code = item.get("status"), item.get("exitCode")
    if isinstance(code, int) and code != 0:
        notes.insert(0, f"exit {code}")
    elif status not in (None, *_WELL):
        notes.insert(0, one_line(str(status)))
    return f"{what} ({', '.join(notes)})" if notes else what


def _what(item: Item, root: str) -> str | None:
    kind = item.get("type")
    if kind == "commandExecution":
        return f"$ {one_line(_command(item))}"
    if kind == "fileChange":
        changes = [one_line(_change(change, root)) for change in _entries(item.get("changes"))]
        return f"± {', '.join(changes)}"
    if kind in ("mcpToolCall", "dynamicToolCall"):
        names = (item.get("server") or item.get("namespace"), item.get("tool"))
        return f"→ {one_line('.'.join(str(name) for name in names if name))}"
    if kind == "webSearch":
        return f"→ search: {one_line(str(item.get('query') or ''))}"
    return None


def _entries(listed: Any) -> list[Item]:
    """Those of a list that can be shown; what the server says may be anything."""
    found = listed if isinstance(listed, list) else []
    return [entry for entry in found if isinstance(entry, dict)]


def _command(item: Item) -> str:
    """The command without the shell that codex has it run in."""
    actions = _entries(item.get("commandActions"))
    if len(actions) == 1 and isinstance(actions[0].get("command"), str):
        return str(actions[0]["command"])
    return str(item.get("command") or "")


def _change(change: Item, root: str) -> str:
    lines = str(change.get("diff") or "").splitlines()
    path = str(change.get("path"))
    path = path.removeprefix(f"{root}/") if root else path
    kind = change.get("kind")
    word = kind.get("type") if isinstance(kind, dict) else kind
    if word in ("add", "delete"):
        return f"{path} {'+' if word == 'add' else '-'}{len(lines)}"
    more = sum(line.startswith("+") and not line.startswith("+++") for line in lines)
    less = sum(line.startswith("-") and not line.startswith("---") for line in lines)
    return f"{path} +{more} -{less}"


def error_text(error: Any) -> str:
    """What went wrong, as the server or the hub says it, as a sentence."""
    message = error.get("message") if isinstance(error, dict) else None
    text = one_line(" ".join(str(message or "It is not said why.").split()))
    return text if text.endswith((".", "!", "?", "…")) else f"{text}."


def seconds(took_s: float) -> str:
    """A time that something took."""
    if took_s < 60:
        return f"{took_s:.1f} s"
    minutes, rest = divmod(int(took_s), 60)
    return f"{minutes} min {rest} s"
