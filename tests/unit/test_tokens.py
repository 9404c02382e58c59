"""What each token opens, and what becomes of that when its file changes."""

from __future__ import annotations

from pathlib import Path

import pytest

from codexd.api.http import Access
from codexd.api.tokens import Tokens
from codexd.store import token_file


class Room:
    def __init__(self, place: Path) -> None:
        self.all, self.read = place / "all", place / "read"
        for path in (self.all, self.read):
            token_file.make(str(path))
        self.faults: list[str] = []
        self.changes: list[str] = []
        self.tokens = Tokens(
            str(self.all),
            str(self.read),
            on_fault=lambda path, fault: self.faults.append(f"{path}: {fault}"),
            on_change=self.changes.append,
        )

    def access(self, path: Path) -> Access:
        return self.tokens.access(path.read_bytes().strip())[0]


@pytest.fixture
def room(tmp_path: Path) -> Room:
    return Room(tmp_path)


def test_each_opens_what_it_is_for(room: Room) -> None:
    assert room.access(room.all) is Access.ADMIN
    assert room.access(room.read) is Access.READ
    for wrong in (b"", b"x" * 43, room.all.read_bytes(), room.all.read_bytes()[:42]):
        assert room.tokens.access(wrong)[0] is Access.OPEN
    assert not room.tokens.look()
    assert (room.faults, room.changes, room.tokens.fault) == ([], [], None)


def test_one_that_takes_its_place_is_the_only_one(room: Room) -> None:
    old = room.all.read_bytes().strip()
    digest = room.tokens.access(old)[1]
    assert room.tokens.holds(digest)
    token_file.rotate(str(room.all))
    assert room.tokens.look()
    assert not room.tokens.holds(digest)
    assert room.tokens.access(old)[0] is Access.OPEN
    assert room.access(room.all) is Access.ADMIN
    assert room.changes == [str(room.all)]
    assert not room.tokens.look()


def test_the_same_again_cuts_nobody(room: Room) -> None:
    text = room.all.read_text()
    room.all.unlink()
    room.all.write_text(text.strip())
    room.all.chmod(0o600)
    assert not room.tokens.look()
    assert room.access(room.all) is Access.ADMIN
    assert room.changes == room.faults == []


@pytest.mark.parametrize("trouble", ["gone", "mode", "garbled"])
def test_one_in_trouble_opens_nothing_and_is_told_once(room: Room, trouble: str) -> None:
    token = room.all.read_bytes().strip()
    if trouble == "gone":
        room.all.unlink()
    elif trouble == "mode":
        room.all.chmod(0o644)
    else:
        room.all.write_bytes(b"\0\0")
    for _ in range(3):
        assert not room.tokens.look()
        # Who came in by it may stay.
        assert room.tokens.holds(room.tokens.access(token)[1])
        assert room.tokens.access(token)[0] is Access.OPEN
    assert len(room.faults) == 1
    assert room.tokens.fault is not None
    # Nor is there a token of zeros, or none, that it would have been.
    assert room.tokens.access(b"")[0] is Access.OPEN
    assert room.access(room.read) is Access.READ
    token_file.rotate(str(room.all))
    assert room.tokens.look()
    assert room.access(room.all) is Access.ADMIN
    assert room.tokens.fault is None
    assert len(room.faults) == 1


def test_the_one_for_reading_is_never_the_one_for_everything(room: Room) -> None:
    room.read.write_bytes(room.all.read_bytes())
    assert not room.tokens.look()
    assert len(room.faults) == 1
    assert "--read --rotate" in room.faults[0]
    assert room.access(room.all) is Access.ADMIN
    token_file.rotate(str(room.read))
    assert room.tokens.look()
    assert room.access(room.read) is Access.READ
