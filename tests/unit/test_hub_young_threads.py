"""A thread that has not had a turn can be joined: by another client, and after the plugin's death.

codex 0.163 refuses that, until something of the thread is in its database (measured).
"""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.hub import HubRig

_NO_TURN = {"code": -32601, "message": "list_turns is not supported yet"}
_NOT_WRITTEN = {"code": -32600, "message": "no rollout found for thread id t1"}


def _is_written_down(rig: HubRig, git_info: Any = None) -> dict[str, Any]:
    """The child answers what has a thread written down; what it was told to update."""
    assert rig.asked("thread/read")["params"] == {"threadId": "t1", "includeTurns": True}
    rig.answer("thread/read", error=_NO_TURN)
    assert rig.asked("thread/read")["params"] == {"threadId": "t1"}
    rig.answer("thread/read", {"thread": {"id": "t1", "gitInfo": git_info}})
    params: dict[str, Any] = rig.asked("thread/metadata/update")["params"]
    rig.answer("thread/metadata/update", {"thread": {"id": "t1"}})
    return params


def _resumes(rig: HubRig) -> int:
    return sum(entry["method"] == "thread/resume" for entry in rig.to_child)


@pytest.fixture
def rig() -> HubRig:
    rig = HubRig()
    rig.connect(1)
    rig.connect(2)
    rig.open_thread(1)
    rig.answer("thread/read", error=_NO_TURN)
    return rig


@pytest.mark.parametrize(
    ("git_info", "branch"), [(None, None), ({"branch": "main", "sha": "1"}, "main")]
)
def test_another_client_joins_it(rig: HubRig, git_info: Any, branch: str | None) -> None:
    asked = rig.ask(2, "thread/resume", {"threadId": "t1"})
    rig.answer("thread/resume", error=_NO_TURN)
    # What it has is set once more.
    assert _is_written_down(rig, git_info) == {"threadId": "t1", "gitInfo": {"branch": branch}}
    assert not rig.answers(2, asked)
    rig.answer("thread/resume", {"thread": {"id": "t1"}})
    assert "result" in rig.answers(2, asked)[0]
    rig.run_turn(1)
    assert len(rig.got(2, "turn/started")) == 1
    assert rig.hub.snapshot()["waitingRequests"] == 0


def test_who_is_refused_all_the_same_is_told_so_once(rig: HubRig) -> None:
    asked = rig.ask(2, "thread/resume", {"threadId": "t1"})
    rig.answer("thread/resume", error=_NO_TURN)
    _is_written_down(rig)
    rig.answer("thread/resume", error=_NO_TURN)
    assert [entry["error"] for entry in rig.answers(2, asked)] == [_NO_TURN]
    assert _resumes(rig) == 2
    rig.run_turn(1)
    assert not rig.got(2, "turn/started")


@pytest.mark.parametrize("leaves", [True, False])
def test_the_server_or_the_client_is_gone_meanwhile(rig: HubRig, *, leaves: bool) -> None:
    asked = rig.ask(2, "thread/resume", {"threadId": "t1"})
    rig.answer("thread/resume", error=_NO_TURN)
    if leaves:
        rig.leave(2)
        _is_written_down(rig)
        rig.answer("thread/resume", {"thread": {"id": "t1"}})
        assert not rig.answers(2, asked)
        # With the other one nobody listens any more.
        rig.leave(1)
        assert rig.to_child[-1]["method"] == "thread/unsubscribe"
        rig.answer("thread/unsubscribe")
    else:
        rig.lose()
        rig.ready()
        rig.answer("thread/resume", {"thread": {"id": "t1"}})
        # The client's own goes behind the hub's.
        rig.answer("thread/resume", {"thread": {"id": "t1"}})
        assert "result" in rig.answers(2, asked)[0]
    assert rig.hub.snapshot()["waitingRequests"] == 0


def _next_hub(rig: HubRig) -> tuple[HubRig, Any]:
    """After the plugin's death its client comes back, and resumes the thread."""
    later = HubRig(ready=False)
    later.do(later.hub.restore([rig.sessions["t1"]], later.now))
    later.connect(1)
    later.ready("t1", same_child=True)
    return later, later.ask(1, "thread/resume", {"threadId": "t1"})


@pytest.mark.parametrize("refusal", [_NO_TURN, _NOT_WRITTEN])
def test_its_client_comes_back_after_the_plugins_death(
    rig: HubRig, refusal: dict[str, Any]
) -> None:
    later, asked = _next_hub(rig)
    later.answer("thread/resume", error=refusal)
    _is_written_down(later)
    for _ in range(2):
        later.answer("thread/resume", {"thread": {"id": "t1", "status": {"type": "idle"}}})
    assert "result" in later.answers(1, asked)[0]
    assert _resumes(later) == 3
    later.run_turn(1)
    later.end_turn()
    assert later.event_types()[-2:] == ["turn.started", "turn.completed"]


def test_a_server_that_never_answers_for_it_ends_what_waits(rig: HubRig) -> None:
    later, asked = _next_hub(rig)
    later.answer("thread/resume", error=_NO_TURN)
    for _ in range(124):
        later.tick(1)
    assert "did not come back in time" in later.answers(1, asked)[0]["error"]["message"]
