"""A text that another process makes."""

from __future__ import annotations

import os
import signal

import pytest

from codexd.platform.forked import ForkedText


def no_child_is_left() -> bool:
    try:
        return os.waitpid(-1, os.WNOHANG) == (0, 0)
    except ChildProcessError:
        return True


@pytest.mark.parametrize("text", ["", "a text\n" * 100_000, "odd: \udcff \u20ac"])
def test_it_is_made_in_another_process(text: str) -> None:
    made = ForkedText(lambda: f"{os.getpid()} {text}")
    pid, _, told = made.result().partition(" ")
    assert told == text
    assert int(pid) != os.getpid()
    assert no_child_is_left()


def refuse() -> str:
    raise ValueError("The value \udcff cannot be written.")


def test_what_it_refuses_is_refused_here() -> None:
    with pytest.raises(ValueError, match=r"^The value \udcff cannot be written\.$"):
        ForkedText(refuse).result()
    assert no_child_is_left()


def test_where_the_other_process_dies_it_is_made_here() -> None:
    own = os.getpid()

    def make() -> str:
        if os.getpid() != own:
            os.kill(os.getpid(), signal.SIGKILL)
        return "here"

    assert ForkedText(make).result() == "here"
    assert no_child_is_left()


def test_where_there_is_no_other_process_it_is_made_here(monkeypatch: pytest.MonkeyPatch) -> None:
    def fork() -> int:
        raise BlockingIOError

    monkeypatch.setattr(os, "fork", fork)
    before = set(os.listdir("/dev/fd"))
    made = ForkedText(lambda: str(os.getpid()))
    assert made.result() == str(os.getpid())
    made.close()
    assert set(os.listdir("/dev/fd")) <= before


def test_nobody_need_wait_for_it() -> None:
    made = ForkedText(lambda: "x" * 1_000_000)
    made.close()
    made.close()
    assert no_child_is_left()
