"""The store: identity, changes, sessions, and when they reach the disk."""

from __future__ import annotations

import errno
import json
import os
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from codexd.config import Config
from codexd.contracts import RecentEvents, SessionRecord
from codexd.store import flusher as flusher_module
from codexd.store.files import write_atomic
from codexd.store.identity import ensure_identity, read_identity
from codexd.store.snapshot import read_daemon, read_snapshot
from codexd.store.state import Flusher, StateStore
from tests.support.memory import config_at
from tests.support.waiting import eventually


@pytest.fixture
def config(tmp_path: Path) -> Config:
    return config_at(tmp_path)


def no_events() -> RecentEvents:
    return RecentEvents(max_entries=50)


def open_store(config: Config) -> StateStore:
    store = StateStore.open(config, recent=no_events)
    assert Flusher(store).flush()
    return store


@pytest.fixture
def running(config: Config) -> Iterator[StateStore]:
    """A store with its flusher."""
    store = open_store(config)
    flusher = Flusher(store)
    flusher.start()
    yield store
    flusher.stop()


def on_disk(path: str) -> Any:
    return json.loads(Path(path).read_bytes())


def session(number: int, **changes: Any) -> SessionRecord:
    values = {
        "session_id": f"session-{number}",
        "purpose": "duplex",
        "endpoint": "unix:///x",
        "created_at": "2026-01-01T00:00:00.000Z",
        "updated_at": "2026-01-01T00:00:00.000Z",
        **changes,
    }
    return SessionRecord(**values)


# -- identity --------------------------------------------------------------------------------


def test_the_id_is_made_once(config: Config) -> None:
    first = ensure_identity(config)
    assert str(uuid.UUID(first.daemon_id)) == first.daemon_id
    assert ensure_identity(config) == first
    document = on_disk(config.paths.identity_path)
    assert list(document) == ["daemonId", "nodeId", "repoRoot", "createdAt", "version"]


def test_the_rest_of_the_identity_follows_the_configuration(config: Config, tmp_path: Path) -> None:
    first = ensure_identity(config)
    changed = ensure_identity(config_at(tmp_path, node_id="other", version="1.2"))
    assert (changed.daemon_id, changed.created_at) == (first.daemon_id, first.created_at)
    assert (changed.node_id, changed.version) == ("other", "1.2")
    assert ensure_identity(config).version == "1.2"


def test_an_identity_that_needs_no_change_is_not_written(config: Config) -> None:
    ensure_identity(config)
    before = os.stat(config.paths.identity_path)
    ensure_identity(config)
    assert os.stat(config.paths.identity_path).st_ino == before.st_ino


ID = "0f0e0d0c-1111-2222-3333-444455556666"


@pytest.mark.parametrize(
    "damaged",
    [
        f'{{"daemonId": "{ID}", "nodeId": 7}}',
        f'{{"daemonId": "{ID}", "nodeId": "x", "repoRoot": "/x", "createdAt": "x", "new": 1}}',
        f'{{"nodeId": "{uuid.UUID(int=0)}", "daemonId": "{ID}", "createdAt": ',
        f"\x00\x01 nothing else was left: {ID}",
        f'["{ID}"]',
    ],
)
def test_the_id_is_found_in_a_damaged_file(config: Config, damaged: str) -> None:
    path = Path(config.paths.identity_path)
    path.parent.mkdir(parents=True)
    path.write_text(damaged)
    identity, is_written, repairs = read_identity(config)
    assert identity.daemon_id == ID
    assert not is_written
    assert len(repairs) == 1
    identity = ensure_identity(config)
    assert on_disk(str(path))["daemonId"] == ID
    assert read_identity(config) == (identity, True, [])


@pytest.mark.parametrize("damaged", [b"", b"{}", b'{"daemonId": ""}', b"\xff"])
def test_without_any_id_there_is_a_new_one(config: Config, damaged: bytes) -> None:
    path = Path(config.paths.identity_path)
    path.parent.mkdir(parents=True)
    path.write_bytes(damaged)
    identity, is_written, repairs = read_identity(config)
    assert uuid.UUID(identity.daemon_id)
    assert not is_written
    assert len(repairs) == 1
    identity = ensure_identity(config)
    assert read_identity(config) == (identity, True, [])


def test_a_new_id_that_cannot_be_written_is_an_error(
    config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", fail)
        with pytest.raises(OSError, match="No space left"):
            ensure_identity(config)
    first = ensure_identity(config)
    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", fail)
        changed = ensure_identity(config_at(Path(config.paths.repo_root), node_id="other"))
    assert changed.daemon_id == first.daemon_id


# -- changes and when they are on the disk ---------------------------------------------------


def test_every_file_is_there_from_the_beginning(running: StateStore, config: Config) -> None:
    paths = config.paths
    eventually(lambda: os.path.exists(paths.session_registry_path))
    eventually(lambda: os.path.exists(paths.recent_events_path))
    eventually(lambda: os.path.exists(paths.daemon_state_path))
    assert on_disk(paths.session_registry_path) == {"updatedAt": None, "sessions": []}
    child = on_disk(paths.daemon_state_path)["child"]
    assert child["status"] == running.daemon.child.status == "idle"


def test_changes_are_on_the_disk_soon(running: StateStore, config: Config) -> None:
    delays = []
    for pid in range(5):
        begun = time.monotonic()
        running.update_daemon(pid=pid)

        def arrived(pid: int = pid) -> bool:
            state = read_daemon(config.paths)
            return state is not None and state.pid == pid

        while not arrived():
            assert time.monotonic() < begun + 10
            time.sleep(0.002)
        delays.append(time.monotonic() - begun)
    # A busy machine may hold up one, not all.
    assert min(delays) < 0.5


def test_many_changes_of_a_burst_are_one_write(
    running: StateStore, config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    eventually(lambda: os.path.exists(config.paths.daemon_state_path))
    writes: list[str] = []

    def counted(path: str, data: bytes) -> None:
        writes.append(path)
        write_atomic(path, data)

    monkeypatch.setattr(flusher_module, "write_atomic", counted)
    begun = time.monotonic()
    for number in range(500):
        running.update_child(restarts=number)
    took = time.monotonic() - begun
    eventually(lambda: (read_daemon(config.paths) or running.daemon).child.restarts == 499)
    assert len(writes) <= 2 + took / 0.04
    assert set(writes) == {config.paths.daemon_state_path}


def test_that_the_child_is_ready_waits_for_no_other_change(
    running: StateStore, config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    eventually(lambda: os.path.exists(config.paths.daemon_state_path))
    monkeypatch.setattr(flusher_module, "_GATHER_S", 3600.0)
    monkeypatch.setattr(flusher_module, "_PAUSE_S", 3600.0)
    running.update_child(status="running")
    running.update_child(ready=True)
    eventually(lambda: (read_daemon(config.paths) or running.daemon).child.ready)


def test_what_has_not_changed_is_not_written_at_the_end(
    config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = open_store(config)
    writes: list[str] = []
    monkeypatch.setattr(flusher_module, "write_atomic", lambda path, _data: writes.append(path))
    store.update_child(status="starting")
    flusher = Flusher(store)
    monkeypatch.setattr(flusher_module, "stamp", lambda _path: None)
    flusher.stop()
    assert writes == [config.paths.daemon_state_path]


def test_only_known_fields_can_be_changed(config: Config) -> None:
    store = open_store(config)
    with pytest.raises(AttributeError):
        store.update_child(mood="good")


def test_what_was_stored_is_read_again(config: Config) -> None:
    store = open_store(config)
    store.update_daemon(started=True, pid=3)
    store.update_child(status="running", args=["a\udcff"])
    store.put_session(session(1, metadata={"k": "v\n  w"}))
    Flusher(store).stop()
    again = open_store(config)
    assert again.repairs == []
    assert again.daemon.pid == 3
    assert again.daemon.child.status == "running"
    assert again.sessions == {"session-1": session(1, metadata={"k": "v\n  w"})}
    assert again.identity == store.identity


def test_a_write_that_fails_is_tried_until_it_works(
    running: StateStore, config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(flusher_module, "_RETRY_S", 0.01)
    eventually(lambda: os.path.exists(config.paths.daemon_state_path))

    def fail(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    (file,) = [f for f in running.files if f.path == config.paths.daemon_state_path]
    with monkeypatch.context() as patch:
        patch.setattr(flusher_module, "write_atomic", fail)
        running.update_daemon(pid=77)
        assert "No space left" in eventually(lambda: file.trouble)
    eventually(lambda: (read_daemon(config.paths) or running.daemon).pid == 77)
    eventually(lambda: file.trouble is None)


def test_stopping_writes_what_is_left(config: Config) -> None:
    store = open_store(config)
    flusher = Flusher(store)
    flusher.start()
    store.update_daemon(pid=5)
    flusher.stop()
    assert on_disk(config.paths.daemon_state_path)["pid"] == 5


# -- damaged files ---------------------------------------------------------------------------


def test_all_files_damaged_at_once(config: Config) -> None:
    identity = open_store(config).identity
    paths = config.paths
    damaged = [paths.daemon_state_path, paths.session_registry_path, paths.recent_events_path]
    for path in damaged:
        Path(path).write_bytes(b"{torn")
    store = open_store(config)
    assert len(store.repairs) == 3
    assert store.identity == identity
    Flusher(store).stop()
    for path in damaged:
        on_disk(path)
    assert open_store(config).repairs == []


def test_leftovers_of_a_killed_writer_go(config: Config) -> None:
    open_store(config)
    leftover = Path(config.paths.state_dir, ".daemon-state.json.99999.tmp")
    leftover.write_bytes(b"half")
    open_store(config)
    assert not leftover.exists()


# -- sessions --------------------------------------------------------------------------------


def test_the_registry_file_is_plain_pretty_json(config: Config) -> None:
    store = open_store(config)
    store.put_session(session(1, metadata={"a": "b"}))
    store.put_session(session(2))
    Flusher(store).stop()
    text = Path(config.paths.session_registry_path).read_text()
    assert text == json.dumps(json.loads(text), indent=2) + "\n"
    assert [entry["sessionId"] for entry in json.loads(text)["sessions"]] == [
        "session-1",
        "session-2",
    ]


def test_a_session_is_closed_once(config: Config) -> None:
    store = open_store(config)
    store.put_session(session(1))
    store.close_session("session-1")
    closed = store.sessions["session-1"]
    assert closed.status == "closed"
    assert closed.updated_at > closed.created_at
    store.close_session("session-1")
    store.close_session("no such session")
    assert store.sessions == {"session-1": closed}


def test_closed_sessions_leave_by_number_the_oldest_first(tmp_path: Path) -> None:
    store = open_store(config_at(tmp_path, session_keep="2"))
    for number in range(5):
        store.put_session(session(number))
    for number in (3, 0, 4, 1):
        store.close_session(f"session-{number}")
    assert list(store.sessions) == ["session-1", "session-2", "session-4"]


def test_closed_sessions_leave_by_age(tmp_path: Path) -> None:
    times = iter(f"2026-01-0{day}T00:00:00.000Z" for day in (1, 1, 1, 2, 4, 4))
    store = StateStore.open(
        config_at(tmp_path, session_keep_ms=str(2 * 86_400_000)),
        recent=no_events,
        clock=lambda: next(times),
    )
    store.put_session(session(1))
    store.close_session("session-1")
    store.put_session(session(2))
    assert list(store.sessions) == ["session-1", "session-2"]
    store.put_session(session(3))
    assert list(store.sessions) == ["session-2", "session-3"]


def test_sessions_that_are_due_leave_at_the_next_start(tmp_path: Path) -> None:
    store = open_store(config_at(tmp_path))
    for number in range(4):
        store.put_session(session(number, status="closed", updated_at="2999-01-01T00:00:00.000Z"))
    Flusher(store).stop()
    config = config_at(tmp_path, session_keep="1")
    store = open_store(config)
    assert list(store.sessions) == ["session-3"]
    Flusher(store).stop()
    assert len(on_disk(config.paths.session_registry_path)["sessions"]) == 1


@pytest.mark.parametrize("keep_ms", ["0", "1" + "0" * 30])
def test_any_time_to_keep_is_possible(tmp_path: Path, keep_ms: str) -> None:
    store = open_store(config_at(tmp_path, session_keep_ms=keep_ms))
    store.put_session(session(1))
    store.close_session("session-1")
    store.put_session(session(2))
    assert ("session-1" in store.sessions) == (keep_ms != "0")


def test_ten_thousand_sessions_do_not_slow_a_change(config: Config) -> None:
    store = open_store(config)

    def cost_of_a_change() -> float:
        best = 1.0
        for attempt in range(20):
            begun = time.perf_counter()
            for number in range(20):
                store.put_session(session(number, child_pid=attempt))
                store.update_child(restarts=number)
            best = min(best, time.perf_counter() - begun)
        return best

    for number in range(20):
        store.put_session(session(number))
    few = cost_of_a_change()
    for number in range(10_000):
        store.put_session(session(number))
    many = cost_of_a_change()
    assert many < few * 3


def test_a_large_registry_does_not_hold_up_the_daemon_state(config: Config) -> None:
    store = open_store(config)
    for number in range(10_000):
        store.put_session(session(number))
    flusher = Flusher(store)
    flusher.start()
    try:
        delays = []
        for pid in range(5):
            store.put_session(session(pid, child_pid=pid))
            begun = time.monotonic()
            store.update_daemon(pid=pid)
            while on_disk_pid(config) != pid:
                assert time.monotonic() < begun + 10
                time.sleep(0.002)
            delays.append(time.monotonic() - begun)
        assert min(delays) < 0.5
    finally:
        flusher.stop()
    assert len(on_disk(config.paths.session_registry_path)["sessions"]) == 10_000


def on_disk_pid(config: Config) -> int | None:
    state = read_daemon(config.paths)
    return state.pid if state else None


# -- looking, locking ------------------------------------------------------------------------


def test_a_snapshot_of_nothing_writes_nothing(config: Config, tmp_path: Path) -> None:
    snapshot = read_snapshot(config)
    assert snapshot.identity is None
    assert snapshot.daemon.child.endpoint == config.server.endpoint
    assert snapshot.sessions.sessions == []
    assert snapshot.recent.max_entries == 50
    assert read_daemon(config.paths) is None
    assert os.listdir(tmp_path) == []


def test_a_snapshot_shows_what_is_stored(config: Config) -> None:
    store = open_store(config)
    store.put_session(session(1))
    store.update_daemon(pid=4)
    Flusher(store).stop()
    snapshot = read_snapshot(config)
    assert snapshot.identity == store.identity
    assert snapshot.daemon == store.daemon
    assert snapshot.sessions.sessions == [session(1)]


def test_a_snapshot_of_damaged_files_changes_nothing(config: Config) -> None:
    open_store(config)
    paths = config.paths
    for path in (paths.identity_path, paths.daemon_state_path, paths.recent_events_path):
        Path(path).write_bytes(b'{"half')
    before = {name: os.stat(f"{paths.state_dir}/{name}") for name in os.listdir(paths.state_dir)}
    snapshot = read_snapshot(config)
    assert snapshot.identity is None
    assert snapshot.daemon.child.status == "idle"
    after = {name: os.stat(f"{paths.state_dir}/{name}") for name in os.listdir(paths.state_dir)}
    assert {name: stat.st_mtime_ns for name, stat in before.items()} == {
        name: stat.st_mtime_ns for name, stat in after.items()
    }
