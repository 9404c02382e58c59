"""The threads that the hub knows: who listens, and which turn runs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

import msgspec

from codexd.hub.methods import KEPT_BY_RESUME, SETTINGS_IN_CONFIG
from codexd.hub.told_settings import ToldSettings
from codexd.turn_record import ToldItems

# Whether the server tells the hub's connection what happens on a thread. unasked: only if it does
# so on its own, as for a subagent's. joined: a client, or the hub itself, asked for it. left: no
# more.
Hearing = Literal["unasked", "joined", "left"]

_SLOW_S = 1.0
# What is remembered of files that are about to be changed.
_CHANGE_BYTES = 256 << 10
_CHANGED_FILES = 200
_CHANGE_ITEMS = 8
# How many turns of a thread are remembered that are over.
_TURNS = 8
# As much of a thread's beginning as is shown for its title.
_TITLE_CHARS = 200


class Description(msgspec.Struct, frozen=True):
    """What people know a thread by, as the server describes it."""

    name: str | None = None
    preview: str = ""
    cwd: str | None = None


class Described(msgspec.Struct, frozen=True):
    """Whatever has a thread in it."""

    thread: Description = Description()


@dataclass(frozen=True, slots=True)
class ThreadView:
    """How a thread is shown: who listens to it, by name, and the id of the turn that runs."""

    title: str | None
    cwd: str | None
    clients: tuple[str, ...]
    turn: str | None


@dataclass(slots=True)
class Thread:
    """One thread. ``turn`` is the turn that runs, as the server described it; ``has_begun`` says
    that the server told its beginning, too, and ``overtaken`` are those that it came after, and
    whose end was not told yet; ``restored`` is the one that ran when the hub before this one was
    there last. ``last_ended`` is how the turns ended that did so last, by id.

    ``config`` are the overrides that a resume must give the server again. ``opening`` is what else
    one must give it as long as no turn has had it written down, and ``settings`` the changes to it;
    both are None from then on. ``told`` are settings that a server never writes down, or late;
    ``is_unset`` says that the present one may not have been given them yet. ``left_at`` is when the
    last client left, ``idle_at`` when the server said that nothing goes on while a turn had not
    ended yet, ``began_at`` when the turn began, where that was seen, ``took_s`` how long it took to
    be opened or resumed, ``retold_until`` until when it may say again how things stand, because the
    hub itself resumed it. ``seen`` are the items of the turn whose end was told, ``has_gap`` says
    that some may have gone by while there was no connection, and ``may_be_over`` is the one whose
    end may have been the last to do so; ``is_realtime`` says that it is being spoken on. ``review``
    is the turn that runs where it is a review, ``resumers`` are clients whose resume was answered
    and that may be told more because of it.
    """

    id: str
    hearing: Hearing = "unasked"
    subscribers: set[int] = field(default_factory=set)
    turn: dict[str, Any] | None = None
    has_begun: bool = False
    overtaken: dict[str, dict[str, Any]] = field(default_factory=dict)
    restored: str | None = None
    last_ended: dict[str, str | None] = field(default_factory=dict)
    is_active: bool = False
    is_ephemeral: bool = False
    config: dict[str, Any] = field(default_factory=dict)
    opening: dict[str, Any] | None = None
    settings: dict[str, Any] | None = None
    told: ToldSettings = field(default_factory=ToldSettings)
    is_unset: bool = False
    left_at: float | None = None
    idle_at: float | None = None
    began_at: float | None = None
    took_s: float = 0.0
    retold_until: float = 0.0
    seen: ToldItems = field(default_factory=ToldItems)
    has_gap: bool = False
    may_be_over: list[dict[str, Any]] = field(default_factory=list)
    is_realtime: bool = False
    review: str | None = None
    resumers: list[int] = field(default_factory=list)
    name: str | None = None
    preview: str = ""
    cwd: str | None = None
    # The files that items of the turn are about to change, for those who are asked for leave.
    changes: dict[str, list[dict[str, Any]]] = field(default_factory=dict)

    def will_change(self, item: str, changes: list[dict[str, Any]], size: int) -> None:
        """An item of the turn is about to change files; of a long one only which."""
        if size > _CHANGE_BYTES:
            changes = [{"path": change.get("path")} for change in changes[:_CHANGED_FILES]]
        self.changes[item] = changes
        if len(self.changes) > _CHANGE_ITEMS:
            del self.changes[next(iter(self.changes))]

    def resumed_by(self, client: int) -> None:
        """A client's resume of it was answered."""
        there = [known for known in self.resumers if known in self.subscribers and known != client]
        self.resumers = [*there, client]

    def next_resumer(self) -> int | None:
        """The first of those who resumed it and are still there, once."""
        there = [client for client in self.resumers if client in self.subscribers]
        self.resumers = there[1:]
        return there[0] if there else None

    @property
    def title(self) -> str | None:
        """Its name, or how it begins; None where neither is known. It is written down nowhere."""
        return self.name or self.preview or None

    def described(self, description: Description) -> None:
        """The server says what people know it by."""
        self.name = _shortened(description.name or "") or self.name
        self.preview = _shortened(description.preview) or self.preview
        self.cwd = description.cwd or self.cwd

    def renamed(self, name: str | None) -> None:
        """It was given another name, or none."""
        self.name = _shortened(name or "") or None

    @property
    def is_slow(self) -> bool:
        """Whether it is likely to take long to resume: it starts programs, or did take long."""
        starts_programs = any(key.partition(".")[0] == "mcp_servers" for key in self.config)
        return starts_programs or self.took_s > _SLOW_S

    @property
    def is_busy(self) -> bool:
        """Whether a turn runs, as far as the server has told."""
        return self.turn is not None or self.is_active or bool(self.overtaken)

    def began(self, turn: dict[str, Any], *, is_told: bool = True) -> bool:
        """A turn runs; False if that was known, or is over already.

        Without ``is_told`` the server has only answered that it will.
        """
        turn_id = turn.get("id")
        if not isinstance(turn_id, str) or self._is_over(turn_id):
            return False
        if self.turn is not None and self.turn["id"] == self.review != turn_id:
            # A review tells of its beginning under another id than of its end (codex 0.163).
            return False
        is_new = self.turn is None or self.turn["id"] != turn_id
        if is_new:
            if self.turn is not None:
                self.overtaken[self.turn["id"]] = self.turn
            self.has_begun = False
            self.seen.clear()
            self.changes.clear()
            self.may_be_over.clear()
            self.has_gap = False
        self.turn = turn
        self.has_begun |= is_told
        self.opening = self.settings = self.idle_at = None
        self.resumers.clear()
        return is_new

    def _is_over(self, turn_id: str) -> bool:
        """Whether a turn has ended, or has before the next one begins."""
        return turn_id in self.last_ended or turn_id in self.overtaken

    def ends(self, turn_id: str) -> str | None:
        """The turn that runs, where the end of a turn told by this id is its end.

        It has another id where a review ends that somebody else began (codex 0.163). But one that
        the server has only said it will begin is not over when another one is.
        """
        if self.turn is None:
            return None
        is_by_another_id = (
            self.idle_at is not None and self.has_begun and not self._is_over(turn_id)
        )
        running: str = self.turn["id"]
        return running if running == turn_id or is_by_another_id else None

    def may_be_on_record(self, turn_id: str) -> bool:
        """Whether a turn that does not run has been told to begin, here or in the hub before."""
        is_of_another_hub = self.turn is not None and self.turn["id"] == self.restored
        return turn_id in self.overtaken or is_of_another_hub

    def ended(self, turn_id: str, status: str | None) -> bool:
        """A turn is over; False if that was told before."""
        if turn_id in self.last_ended:
            return False
        running = self.ends(turn_id)
        self.overtaken.pop(turn_id, None)
        for over in {turn_id, running or turn_id}:
            self.last_ended[over] = status
        while len(self.last_ended) > _TURNS:
            del self.last_ended[next(iter(self.last_ended))]
        # A thread is told idle just before its turn is told to have ended.
        if running is not None:
            self.turn = self.idle_at = None
        return True

    def status_of(self, turn_id: str) -> str | None:
        """How a turn ended; None where that is not known, or not any more."""
        return self.last_ended.get(turn_id)

    def opened_with(self, params: dict[str, Any], *, is_new: bool) -> None:
        """A client opened the thread with these params; ``is_new``: it had no turn yet."""
        config = params.get("config")
        if isinstance(config, dict):
            kept = {key: value for key, value in config.items() if key not in SETTINGS_IN_CONFIG}
            self.config = kept
        if is_new:
            self.opening = {key: params[key] for key in KEPT_BY_RESUME if key in params}
            self.settings = {}

    def to_give_again(self) -> dict[str, Any]:
        """The params of a resume that the server has not written down."""
        given = dict(self.opening or {})
        if self.config:
            given["config"] = {**(given.get("config") or {}), **self.config}
        return given

    def kept(self) -> dict[str, Any]:
        """What the next hub must know of how it was opened; empty for nothing."""
        known = {
            "config": self.config,
            "opening": self.opening,
            "settings": self.settings,
            "told": self.told.values,
            "unset": self.is_unset and bool(self.told.values or self.settings),
        }
        return {name: value for name, value in known.items() if value}

    def restore(self, kept: dict[str, Any]) -> None:
        """Take over what an earlier hub kept."""
        self.config = _dict(kept.get("config")) or {}
        self.opening = _dict(kept.get("opening"))
        self.settings = _dict(kept.get("settings"))
        self.told = ToldSettings.restored(kept.get("told"))
        self.is_unset = kept.get("unset") is True
        if self.opening is not None and self.settings is None:
            self.settings = {}

    def settings_changed(self, params: dict[str, Any]) -> None:
        """Settings were changed; those of a thread with a turn are in its rollout."""
        if self.settings is not None:
            self.settings.update(params)


def _shortened(text: str) -> str:
    return " ".join(text[: 4 * _TITLE_CHARS].split())[:_TITLE_CHARS]


def _dict(value: Any) -> dict[str, Any] | None:
    return value if isinstance(value, dict) else None


class Threads:
    """Every thread that someone listens to, or on which something goes on.

    ``away`` are those that the present child has not been asked to load yet.
    """

    def __init__(self) -> None:
        self._by_id: dict[str, Thread] = {}
        self.away: set[str] = set()

    def __iter__(self) -> Iterator[Thread]:
        return iter(list(self._by_id.values()))

    def __len__(self) -> int:
        return len(self._by_id)

    def get(self, thread_id: str) -> Thread:
        """The thread; a new one if it was not known."""
        thread = self._by_id.get(thread_id)
        if thread is None:
            thread = self._by_id[thread_id] = Thread(thread_id)
        return thread

    def find(self, thread_id: str) -> Thread | None:
        """The thread, if it is known."""
        return self._by_id.get(thread_id)

    def forget(self, thread_id: str) -> Thread | None:
        """The thread is gone."""
        self.away.discard(thread_id)
        return self._by_id.pop(thread_id, None)

    def subscribers(self, thread_id: str) -> Iterable[int]:
        """Who listens to the thread."""
        thread = self._by_id.get(thread_id)
        return () if thread is None else tuple(thread.subscribers)

    @property
    def running_turns(self) -> int:
        """How many threads have a turn running."""
        return sum(thread.is_busy for thread in self._by_id.values())
