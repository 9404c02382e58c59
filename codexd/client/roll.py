"""The daemons that run, each asked how it is; none is waited for longer than a moment."""

from __future__ import annotations

import contextlib
import threading
import time
from typing import Final, Literal

import msgspec

from codexd.client.find import own_config
from codexd.client.live import look
from codexd.daemons.listing import ListedDaemon
from codexd.settings import SettingError
from codexd.store.snapshot import read_snapshot

# A hub that answers does so within milliseconds; :func:`look` gives it a second.
_PATIENCE_S: Final = 2.0

State = Literal["ready", "not ready", "no answer"]


class SeenDaemon(msgspec.Struct, rename="camel", kw_only=True, frozen=True):
    """A daemon of the list, and how it is. ``state_root_dir`` is what `--state-dir` names."""

    pid: int
    node_id: str
    state: State
    started_at: str
    repo_root: str
    state_root_dir: str
    state_dir: str
    logs_dir: str
    hub_socket_path: str
    codex_home: str | None


def ask_each(daemons: list[ListedDaemon], patience_s: float = _PATIENCE_S) -> list[SeenDaemon]:
    """Ask all of them at once; who has not answered after ``patience_s`` seconds has none."""
    answers: dict[int, State] = {}

    def ask(index: int) -> None:
        with contextlib.suppress(OSError):
            answers[index] = _state(daemons[index])

    # Of what hangs nobody need wait for the end, the interpreter neither.
    threads = [
        threading.Thread(target=ask, args=(index,), daemon=True) for index in range(len(daemons))
    ]
    for thread in threads:
        thread.start()
    deadline = time.monotonic() + patience_s
    for thread in threads:
        thread.join(max(0.0, deadline - time.monotonic()))
    return [_seen(entry, answers.get(index, "no answer")) for index, entry in enumerate(daemons)]


def _state(entry: ListedDaemon) -> State:
    try:
        config = own_config(entry)
    except SettingError:
        return "no answer"
    live = look(config, read_snapshot(config).daemon)
    if live.details["hub"] is None:
        return "no answer"
    return "ready" if live.up else "not ready"


def _seen(entry: ListedDaemon, state: State) -> SeenDaemon:
    return SeenDaemon(
        pid=entry.daemon.pid,
        node_id=entry.node_id,
        state=state,
        started_at=entry.started_at,
        repo_root=entry.repo_root,
        state_root_dir=entry.state_root,
        state_dir=entry.state_dir,
        logs_dir=entry.logs_dir,
        hub_socket_path=entry.hub_socket_path,
        codex_home=entry.codex_home,
    )
