"""Damaged state files: every good part is kept, and the damaged file too."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codexd.contracts import (
    ChildState,
    DaemonState,
    Event,
    RecentEvents,
    SessionRecord,
    SessionRegistry,
)
from codexd.store.load import decode, load_tolerant, peek
from codexd.store.salvage import fields_of


def default_daemon() -> DaemonState:
    child = ChildState(strategy="spawn", mode="app-server", endpoint="stdio://default")
    return DaemonState(updated_at="default", child=child)


def good_daemon() -> DaemonState:
    child = ChildState(
        strategy="external",
        mode="exec",
        endpoint="unix:///good",
        status="failed",
        args=["a", "b"],
        pid=7,
        exit_code=3,
        last_error="why",
        restarts=9,
    )
    return DaemonState(started=True, started_at="then", pid=5, updated_at="now", child=child)


def session(number: int, **changes: Any) -> dict[str, Any]:
    record = SessionRecord(
        session_id=f"session-{number}",
        purpose="duplex",
        thread_id=f"thread-{number}",
        endpoint="unix:///x",
        created_at="then",
        updated_at="now",
        metadata={"key": "value"},
    )
    return {**msgspec.to_builtins(record), **changes}


def asides(directory: Path) -> list[str]:
    return [name for name in os.listdir(directory) if ".bad-" in name]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "daemon-state.json"


def test_a_good_file_is_read_and_left(path: Path) -> None:
    path.write_bytes(msgspec.json.encode(good_daemon()))
    assert load_tolerant(str(path), default_daemon()) == (good_daemon(), None)
    assert os.listdir(path.parent) == [path.name]


def test_a_missing_file_is_no_damage(path: Path) -> None:
    assert load_tolerant(str(path), default_daemon()) == (default_daemon(), None)
    assert os.listdir(path.parent) == []


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (b"", "is empty"),
        (b" \n", "is empty"),
        (b"{", "is no JSON"),
        (b"\x00\xff\xfe", "is no JSON"),
        (b'{"updatedAt": "\xff"}', "is no JSON"),
        (b"[" * 100_000, "is no JSON"),
        (b"[]", "is no object"),
        (b"7", "is no object"),
        (b"null", "is no object"),
    ],
)
def test_a_useless_file_is_kept_aside(path: Path, damage: bytes, words: str) -> None:
    path.write_bytes(damage)
    record, sentence = load_tolerant(str(path), default_daemon())
    assert record == default_daemon()
    (aside,) = asides(path.parent)
    assert (path.parent / aside).read_bytes() == damage
    assert sentence is not None
    assert sentence.startswith(f"daemon-state.json {words}")
    assert sentence.endswith(f"; it is kept as {aside}.")
    assert "\n" not in sentence


def test_two_bad_files_of_one_second_are_both_kept(path: Path) -> None:
    for damage in (b"1", b"2", b"3"):
        path.write_bytes(damage)
        load_tolerant(str(path), default_daemon())
        path.unlink()
    assert len(asides(path.parent)) == 3


def test_good_fields_are_kept_beside_bad_ones(path: Path) -> None:
    document = msgspec.to_builtins(good_daemon())
    document["pid"] = "five"
    document["started"] = 1
    document["child"]["status"] = "dancing"
    document["child"]["args"] = ["a", 1]
    path.write_bytes(json.dumps(document).encode())
    record, sentence = load_tolerant(str(path), default_daemon())
    expected = good_daemon()
    expected.pid, expected.started = None, False
    expected.child.status, expected.child.args = "idle", []
    assert record == expected
    assert sentence is not None
    assert "child status is wrong" in sentence
    assert len(asides(path.parent)) == 1


def test_a_missing_required_field_is_named(path: Path) -> None:
    path.write_bytes(b'{"started": true}')
    record, sentence = load_tolerant(str(path), default_daemon())
    assert record.started
    assert record.child == default_daemon().child
    assert sentence is not None
    assert "lacks updatedAt; lacks child" in sentence


def test_an_optional_field_of_ours_may_be_missing(path: Path) -> None:
    document = msgspec.to_builtins(good_daemon())
    for name in ("ready", "readyAt", "restarts", "nextRestartAt"):
        del document["child"][name]
    path.write_bytes(json.dumps(document).encode())
    record, sentence = load_tolerant(str(path), default_daemon())
    assert sentence is None
    assert record.child.restarts == 0


def test_what_a_newer_version_wrote_is_kept_aside_and_read(path: Path) -> None:
    document = {**msgspec.to_builtins(good_daemon()), "formatVersion": 2}
    document["child"]["mood"] = "good"
    path.write_bytes(json.dumps(document).encode())
    record, sentence = load_tolerant(str(path), default_daemon())
    assert record == good_daemon()
    assert sentence is not None
    assert "holds an unknown formatVersion" in sentence
    (aside,) = asides(path.parent)
    assert json.loads((path.parent / aside).read_bytes()) == document


def test_every_good_session_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "session-registry.json"
    entries = [
        session(1),
        session(2, purpose="party"),
        "no session",
        session(3, metadata={"a": 1}),
        session(4, childPid="x"),
        {},
        session(5),
    ]
    path.write_bytes(json.dumps({"updatedAt": "now", "sessions": entries}).encode())
    registry, sentence = load_tolerant(str(path), SessionRegistry())
    assert [entry.session_id for entry in registry.sessions] == [
        "session-1",
        "session-3",
        "session-4",
        "session-5",
    ]
    assert registry.updated_at == "now"
    assert registry.sessions[1].metadata == {}
    assert sentence is not None


def test_any_event_detail_is_known(tmp_path: Path) -> None:
    path = tmp_path / "recent-events.json"
    event = Event(
        seq=1, created_at="x", level="info", type="t", message="m", detail={"any": {"thing": 1}}
    )
    record = RecentEvents(max_entries=5, events=[event], newest=[event])
    path.write_bytes(msgspec.json.encode(record))
    assert load_tolerant(str(path), RecentEvents(max_entries=9)) == (record, None)


def test_a_directory_or_a_pipe_in_its_place_is_set_aside(path: Path) -> None:
    path.mkdir()
    assert "could not be read: Not a regular file" in str(
        load_tolerant(str(path), default_daemon())
    )
    os.mkfifo(path)
    record, _ = load_tolerant(str(path), default_daemon())
    assert record == default_daemon()


def test_a_file_without_permissions_is_read_all_the_same(path: Path) -> None:
    path.write_bytes(msgspec.json.encode(good_daemon()))
    path.chmod(0)
    assert load_tolerant(str(path), default_daemon()) == (good_daemon(), None)


def test_an_unreadable_file_is_set_aside(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path.write_bytes(b"secret")

    def refuse(*_: object, **__: object) -> int:
        raise PermissionError(13, "Permission denied")

    with monkeypatch.context() as patch:
        patch.setattr(os, "open", refuse)
        record, sentence = load_tolerant(str(path), default_daemon())
    assert record == default_daemon()
    assert sentence is not None
    assert "could not be read: Permission denied; it is kept as" in sentence
    assert not path.exists()


def test_a_huge_file_is_not_read(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("codexd.platform.files._MAX_BYTES", 1000)
    path.write_bytes(b" " * 1001)
    assert "could not be read: Too large for a file of codexd" in str(
        load_tolerant(str(path), default_daemon())
    )


def test_looking_changes_nothing(path: Path) -> None:
    assert peek(str(path), default_daemon()) is None
    path.write_bytes(b"{broken")
    before = path.stat()
    assert peek(str(path), default_daemon()) == default_daemon()
    assert os.listdir(path.parent) == [path.name]
    assert path.stat().st_mtime_ns == before.st_mtime_ns


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=5),
    lambda children: (
        st.lists(children, max_size=3) | st.dictionaries(st.text(max_size=5), children, max_size=3)
    ),
    max_leaves=5,
)


@given(data=st.data())
@settings(max_examples=80)
def test_whatever_one_field_holds_the_others_are_kept(data: st.DataObject) -> None:
    document = msgspec.to_builtins(good_daemon())
    place = data.draw(st.sampled_from([document, document["child"]]))
    name = data.draw(st.sampled_from(sorted(place)))
    place[name] = data.draw(json_values)
    record, _ = decode(json.dumps(document).encode(), default_daemon())
    expected = msgspec.to_builtins(good_daemon())
    found = msgspec.to_builtins(record)
    for other in expected:
        if other not in (name, "child"):
            assert found[other] == expected[other]
    for other in expected["child"]:
        if name not in (other, "child"):
            assert found["child"][other] == expected["child"][other]


@given(st.binary(max_size=200))
@settings(max_examples=80)
def test_no_bytes_are_too_much(junk: bytes) -> None:
    whole = msgspec.json.encode(good_daemon())
    for damaged in (junk, whole[: len(junk)], whole[: len(junk)] + junk + whole[len(junk) :]):
        record, _ = decode(damaged, default_daemon())
        assert isinstance(record, DaemonState)


# -- lists that are no JSON any more -----------------------------------------------------------


def registry(count: int) -> bytes:
    record = {"updatedAt": "now", "sessions": [session(number) for number in range(count)]}
    return msgspec.json.format(msgspec.json.encode(record), indent=2) + b"\n"


def found(path: Path, data: bytes) -> tuple[list[str], str | None]:
    path.write_bytes(data)
    record, sentence = load_tolerant(str(path), SessionRegistry())
    return [entry.session_id for entry in record.sessions], sentence


def test_a_torn_registry_keeps_every_whole_session(path: Path) -> None:
    whole = registry(5)
    ends = [end for end in range(len(whole)) if whole[:end].endswith(b"\n    }")]
    for end in range(0, len(whole) - 4, 7):
        kept, sentence = found(path, whole[:end])
        assert kept == [f"session-{number}" for number in range(sum(e <= end for e in ends))]
        assert "is no JSON; it is kept as" in str(sentence) or not whole[:end]
    assert all(whole.startswith((path.parent / name).read_bytes()) for name in asides(path.parent))


def test_a_hole_in_a_registry_costs_only_what_was_in_it(path: Path) -> None:
    whole = registry(5)
    place = whole.index(b"session-2")
    for hole in (b"\x00" * 300, b"\xff" * 20, b"}" * 5, b""):
        damaged = whole[:place] + hole + whole[place + max(len(hole), 40) :]
        kept, _ = found(path, damaged)
        assert {"session-0", "session-1", "session-4"} <= set(kept)
        assert "session-2" not in kept


def test_a_hole_in_a_text_makes_no_other_text_of_it(path: Path) -> None:
    damaged = registry(2).replace(b'"value"', b'"val\xffue"', 1)
    assert found(path, damaged)[0] == ["session-1"]


def test_a_torn_record_that_is_no_list_is_as_new(path: Path) -> None:
    path.write_bytes(msgspec.json.encode(good_daemon())[:-30])
    assert load_tolerant(str(path), default_daemon())[0] == default_daemon()


def test_a_large_torn_registry_is_read_soon(path: Path) -> None:
    torn = registry(1000)[:-100]
    begun = time.process_time()
    assert len(found(path, torn)[0]) == 999
    for nonsense in (b"{" * 1_000_000, b'{"a":' * 200_000, b'{"sessions":[' * 50_000):
        assert found(path, nonsense)[0] == []
    assert time.process_time() - begun < 5


def test_the_fields_of_a_record_are_found_out_once_however_many_there_are(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    looked: list[type] = []
    fields = msgspec.structs.fields

    def noted(type_: type[msgspec.Struct]) -> tuple[msgspec.structs.FieldInfo, ...]:
        looked.append(type_)
        return fields(type_)

    monkeypatch.setattr(msgspec.structs, "fields", noted)
    fields_of.cache_clear()
    raw = msgspec.json.encode({"updatedAt": "x", "sessions": [session(n) for n in range(50)]})
    assert len(decode(raw, SessionRegistry())[0].sessions) == 50
    assert looked == [SessionRegistry, SessionRecord]
