"""How `codexd top` looks, line by line."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from rich.cells import cell_len

from codexd.cli.top import drawing
from codexd.cli.top.drawing import Canvas, Frame, draw
from codexd.cli.top.model import Model
from codexd.cli.top.shown import Away, Looked, Past, Process
from tests.support.top import MIB, NOW, event, model, session, snapshot, thread

GOLDEN = Path(__file__).with_name("top_views")
SIZES = ((80, 24), (120, 40))


@pytest.fixture(autouse=True)
def utc(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with monkeypatch.context() as patched:
        patched.setenv("TZ", "UTC")
        patched.setattr(drawing, "__version__", "0.1.0")
        time.tzset()
        yield
    time.tzset()


def drawn(seen: Model, width: int = 80, height: int = 24, *, ascii_only: bool = False) -> Frame:
    frame = draw(seen, Canvas(width, height, NOW, 100.0, ascii_only=ascii_only))
    assert len(frame.lines) == height
    assert {line.cell_len for line in frame.lines} <= {width}
    return frame


def text(frame: Frame) -> str:
    return "\n".join(line.plain.rstrip() for line in frame.lines) + "\n"


def busy() -> Model:
    """A daemon that has a lot to show, some of it made to do harm."""
    seen = model()
    counted = [
        event(1, "child.exited", level="error", at="2026-11-25T05:00:00.000Z", signal="SIGKILL"),
        event(2, "child.started", at="2026-11-25T05:00:00.000Z"),
        event(3, "child.exited", level="error", at="2026-11-25T10:00:00.000Z", signal="SIGKILL"),
        event(4, "child.started", at="2026-11-25T10:00:00.000Z"),
        event(5, "turn.started", at="2026-11-25T11:59:00.000Z", threadId="t1", turnId="x"),
        event(6, "turn.completed", at="2026-11-25T11:30:00.000Z", threadId="t2", turnId="y"),
        event(7, "turn.interrupted", at="2026-11-25T10:00:00.000Z", threadId="t3", turnId="z"),
    ]
    recent = [
        event(
            8, "child.stderr", message="stderr: \x1b]0;owned\x07 数据库 \x1b[2J\n and more of it"
        ),
        event(9, "client.connected", message="A client connected."),
        event(10, "turn.started", message="A turn was started."),
        event(11, "child.unhealthy", level="error", message="The child does not answer. " * 5),
        event(12, "child.ready", message="The child answers.", at="2026-11-24T23:00:00.000Z"),
    ]
    seen.hear(Past(counted=counted, recent=recent * 5), 0.0)
    sessions = [
        session(
            "mwwkc7km-etbqv2",
            "t1",
            title="数据库迁移：把旧表搬到新库里去，然后删掉旧表，最后检查一遍",
            turn="x",
            clients=["编辑器编辑器", "web"],
        ),
        session(
            "mwwkabcd-awtj8y", "t2", title="evil \x1b[2J\x07\u202e title", clients=["\x1b[31mred"]
        ),
        session("mwwk0000-1prut6", "t3", cwd="/work/project", clients=["tui"]),
        session("mwwk0001-2prut6", None),
        session("mwwk0002-9zzzzz", "t5", title="turn of another day", turn="w"),
    ]
    processes = [
        Process(40, "daemon", "codexd", 0.5, 47 * MIB),
        Process(41, "plugin", "codexd's plugin", 1.0, 42 * MIB),
        Process(42, "server", "codex app-server", 93.25, 1400 * MIB),
        *(Process(50 + n, "other", f"mcp\x1b[2J-{n}", n / 10, n * MIB) for n in range(20)),
    ]
    fed: dict[str, Any] = {"sessions": sessions, "processes": processes, "turns": 2, "approvals": 1}
    seen.hear(snapshot(at=1.0, messages=(0, 0), **fed), 1.0)
    seen.hear(snapshot(at=2.0, messages=(5, 1234), **fed), 2.0)
    seen.press("down", 2.0)
    return seen


def away() -> Model:
    seen = busy()
    seen.hear(Away("No daemon runs on /repo/state/codexd: start it with `codexd start`."), 3.0)
    return seen


def failed() -> Model:
    seen = model()
    child: dict[str, Any] = {
        "status": "failed",
        "ready": False,
        "pid": None,
        "last_error": "Child exited with code 1: Error:\n no such model",
        "next_restart_at": "2026-11-25T12:00:38.000Z",
    }
    seen.hear(snapshot(sessions=[], **child), 0.0)
    return seen


def looked() -> Model:
    seen = busy()
    seen.press("enter", 3.0)
    seen.thread_to_read(3.0)
    seen.hear(Looked("t2", thread("The first answer.", "第二个答案。" * 30, "The last one.")), 3.1)
    return seen


VIEWS = {"busy": busy, "away": away, "failed": failed, "looked": looked, "empty": model}


@pytest.mark.parametrize(("width", "height"), SIZES)
@pytest.mark.parametrize("name", VIEWS)
def test_it_looks_as_it_should(name: str, width: int, height: int) -> None:
    shown = text(drawn(VIEWS[name](), width, height))
    assert shown == (GOLDEN / f"{name}-{width}x{height}.txt").read_text("utf-8")


@pytest.mark.parametrize("name", VIEWS)
@pytest.mark.parametrize("size", [(1, 1), (2, 3), (7, 5), (20, 8), (33, 12), (300, 100)])
def test_it_fits_every_screen(name: str, size: tuple[int, int]) -> None:
    drawn(VIEWS[name](), *size)


@pytest.mark.parametrize("name", VIEWS)
def test_nothing_steers_the_terminal(name: str) -> None:
    for line in drawn(VIEWS[name](), 120, 40).lines:
        assert line.plain.isprintable(), line.plain


def test_a_terminal_without_unicode_gets_none_of_ours() -> None:
    seen = failed()
    seen.hear(Past(counted=[event(2, "child.started", at="2026-11-25T11:30:00.000Z")]), 1.0)
    assert text(drawn(seen, 60, ascii_only=True)).isascii()
    assert ".......................1" in text(drawn(seen, ascii_only=True))


def test_the_chosen_session_is_to_be_seen_among_many() -> None:
    seen = model()
    seen.hear(snapshot(sessions=[session(f"{n:08}") for n in range(50)]), 0.0)
    for _ in range(30):
        seen.press("down", 0.0)
    assert "> 000030" in text(drawn(seen))
    seen.press("end", 0.0)
    assert "> 000049" in text(drawn(seen))
    seen.press("home", 0.0)
    assert "> 000000" in text(drawn(seen))


def test_what_is_looked_into_scrolls_to_its_ends() -> None:
    seen = model()
    seen.hear(snapshot(sessions=[session("a", "t")]), 0.0)
    seen.press("enter", 0.0)
    seen.thread_to_read(0.0)
    seen.hear(Looked("t", thread(*(f"answer {n}" for n in range(40)))), 0.0)

    def press(key: str) -> str:
        seen.press(key, 0.0)
        frame = drawn(seen)
        assert seen.look is not None
        seen.look.fit(frame.most, frame.page)
        return text(drawn(seen))

    assert "answer 39" in press("end")
    top = press("home"), press("home")
    assert "answer 0\n" in top[0]
    assert "answer 39" not in top[0]
    below = press("page-down")
    assert "answer 0\n" not in below
    assert press("page-up") == top[0]
    assert press("up") == top[1]
    assert "answer 39" in press("end")


def test_help_and_notes_are_shown() -> None:
    seen = busy()
    seen.press("?", 100.0)
    assert "look into the session" in text(drawn(seen))
    seen.press("?", 100.0)
    seen.press("r", 100.0)
    assert text(drawn(seen)).splitlines()[-1].startswith("Press r again")


def test_wide_characters_take_two_columns() -> None:
    rows = [line.plain for line in drawn(busy()).lines if "数据库迁移" in line.plain]
    assert len(rows) == 1
    assert rows[0].rstrip().endswith("…")
    assert cell_len(rows[0]) == 80
