"""One turn over HTTP, with a hub that is this test: what comes early, late, too much, or never."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from codexd.api import openings as openings_module
from codexd.api import turn_run as module
from codexd.api import turns as turns_module
from codexd.api.asker import Asker
from codexd.api.http import Access, Answer, Head, Problem
from codexd.api.local_client import Refused
from codexd.api.openings import Openings
from codexd.api.table import Table
from codexd.api.threads import ThreadRoutes
from codexd.api.turn_book import TurnBook
from codexd.api.turns import TurnRoutes
from codexd.api.websocket import ClientEnd
from codexd.hub.profile import ClientProfile

TURN = {"id": "u", "status": "inProgress", "items": []}
FAR = {"threadId": "t", "turnId": "u"}
Answers = dict[str, Any]


class Hub:
    """Answers each method as told: a result, an error's (code, text), or a call that makes one."""

    def __init__(self) -> None:
        self.ends: dict[int, ClientEnd] = {}
        self.gone: list[int] = []
        self.asked: list[tuple[str, Any]] = []
        self.answers: Answers = {
            "initialize": {},
            "thread/start": {"thread": {"id": "t"}},
            "thread/resume": {},
            "turn/start": {"turn": TURN},
        }

    def opened(self, profile: ClientProfile, end: ClientEnd) -> int:
        assert profile.private
        self.ends[len(self.ends) + 1] = end
        return len(self.ends)

    def message(self, client: int, data: bytes) -> None:
        message = json.loads(data)
        self.asked.append((message.get("method", "answer"), message.get("params", message)))
        if "id" not in message or "method" not in message:
            return
        answer = self.answers.get(message["method"])
        if callable(answer):
            answer = answer()
        if isinstance(answer, tuple):
            code, text = answer
            self.say({"id": message["id"], "error": {"code": code, "message": text}}, client)
        elif answer is not None:
            self.say({"id": message["id"], "result": answer}, client)

    def closed(self, client: int) -> None:
        assert client not in self.gone
        self.gone.append(client)

    def say(self, message: dict[str, Any], client: int | None = None) -> None:
        self.ends[client or len(self.ends)].send(json.dumps(message).encode())

    def tell(self, method: str, **params: Any) -> None:
        self.say({"method": method, "params": params})

    def complete(self, **turn: Any) -> None:
        ended = {**TURN, "status": "completed", **turn}
        self.tell("turn/completed", threadId="t", turn=ended)

    def methods(self) -> list[str]:
        return [method for method, _ in self.asked]


def play(act: Callable[[Hub], Awaitable[None]]) -> Hub:
    hub = Hub()
    asyncio.run(asyncio.wait_for(act(hub), 20))
    return hub


def book(hub: Hub) -> TurnBook:
    return TurnBook(hub, Openings(hub))


def test_a_turn_is_run_by_a_client_that_goes_some_time_after_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(openings_module, "_USED_S", 0.05)

    async def act(hub: Hub) -> None:
        turns = book(hub)
        run = turns.make("t")
        turn = await turns.start(run, {"input": []})
        assert (turn.turn_id, turn.status) == ("u", "inProgress")
        assert turns.find("t", "u") is turn
        said = {"type": "agentMessage", "text": "hello", "id": "m"}
        hub.tell("item/completed", **FAR, item=said)
        hub.tell("thread/tokenUsage/updated", **FAR, tokenUsage={"total": {}})
        # Of other turns, and of other threads.
        hub.tell("turn/completed", threadId="t", turn={**TURN, "id": "v", "status": "failed"})
        hub.tell("turn/completed", threadId="s", turn={**TURN, "status": "failed"})
        await run.wait(0.01)
        assert turn.status == "inProgress"
        hub.complete(durationMs=7)
        await run.wait(10)
        assert (turn.status, turn.final_response, turn.duration_ms) == ("completed", "hello", 7)
        assert turn.usage == {"total": {}}
        # A second end is none.
        hub.complete(status="failed")
        await asyncio.sleep(0)
        assert turn.status == "completed"
        while turns.find("t", "u") is not turn or hub.gone != [1]:
            await asyncio.sleep(0.001)
        assert not turns.is_full

    play(act)


def test_what_is_told_before_the_turn_has_an_id_is_not_lost() -> None:
    async def act(hub: Hub) -> None:
        def begin() -> dict[str, Any]:
            hub.tell("turn/started", threadId="t", turn=TURN)
            hub.complete()
            return {"turn": TURN}

        hub.answers["turn/start"] = begin
        turns = book(hub)
        run = turns.make("t")
        reader = run.listen()
        turn = await turns.start(run, {"input": []})
        assert turn.status == "completed"
        frames = [frame async for frame in run.follow(reader) if frame is not None]
        assert [method for method, _ in frames] == ["turn/started", "turn/completed"]

    play(act)


def test_a_server_that_dies_before_it_answers_may_have_begun_the_turn() -> None:
    async def act(hub: Hub) -> None:
        def die() -> tuple[int, str]:
            hub.tell("turn/started", threadId="t", turn=TURN)
            hub.complete(status="interrupted", error={"message": "killed"})
            return (-32050, "the server was restarted")

        hub.answers["turn/start"] = die
        turns = book(hub)
        turn = await turns.start(turns.make("t"), {"input": []})
        assert (turn.turn_id, turn.status) == ("u", "interrupted")
        assert turn.error == {"message": "killed"}
        # Nothing is known of one that did not even begin.
        hub.answers["turn/start"] = (-32050, "the server was restarted")
        run = turns.make("t")
        with pytest.raises(Refused, match="restarted"):
            await turns.start(run, {"input": []})
        while not hub.gone:
            await asyncio.sleep(0)

    play(act)


def test_a_reader_that_is_far_behind_is_told_so_and_the_turn_goes_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "_BEHIND_BYTES", 1000)

    async def act(hub: Hub) -> None:
        turns = book(hub)
        run = turns.make("t")
        slow, quick = run.listen(), run.listen()
        turn = await turns.start(run, {"input": []})
        fast = run.follow(quick)
        for number in range(20):
            hub.tell("item/agentMessage/delta", **FAR, itemId="m", delta="x" * 60)
            frame = await anext(fast)
            assert frame is not None, number
        with pytest.raises(module.Behind):
            await anext(run.follow(slow))
        hub.complete()
        await run.wait(10)
        assert turn.status == "completed"
        assert [frame[0] async for frame in fast if frame] == ["turn/completed"]

    play(act)


def test_a_quiet_turn_is_told_to_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_QUIET_S", 0.01)

    async def act(hub: Hub) -> None:
        turns = book(hub)
        run = turns.make("t")
        reader = run.listen()
        await turns.start(run, {"input": []})
        frames = run.follow(reader)
        assert await anext(frames) is None
        hub.complete()
        frame = None
        while frame is None:
            frame = await anext(frames)
        assert frame[0] == "turn/completed"
        await frames.aclose()

    play(act)


def test_a_thread_is_started_and_has_its_first_turn_by_the_same_client() -> None:
    async def act(hub: Hub) -> None:
        openings = Openings(hub)
        turns = TurnBook(hub, openings)
        assert await openings.start({"cwd": "/x"}) == "t"
        await turns.start(turns.make("t"), {"input": []})
        assert "thread/resume" not in hub.methods()
        assert len(hub.ends) == 1
        # Another one at the same time is for another client.
        await turns.start(turns.make("t"), {"input": []})
        assert "thread/resume" in hub.methods()
        assert len(hub.ends) == 2
        hub.asked.clear()
        for client in (1, 2):
            ended = {"threadId": "t", "turn": {**TURN, "status": "completed"}}
            hub.say({"method": "turn/completed", "params": ended}, client)
        # One of them is there for the next one.
        while len(hub.gone) < 1:
            await asyncio.sleep(0)
        await turns.start(turns.make("t"), {"input": []})
        assert hub.methods() == ["turn/start"]

    play(act)


def test_so_many_threads_without_a_turn_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(openings_module, "_KEPT", 2)

    async def act(hub: Hub) -> None:
        openings = Openings(hub)
        for name in ("a", "b", "c"):
            hub.answers["thread/start"] = {"thread": {"id": name}}
            await openings.start({})
        assert hub.gone == [1]
        assert openings.take("a") is None
        assert openings.take("c") is not None
        # One whose hub has hung up is of no use.
        hub.ends[2].close(1011, "failed")
        assert openings.take("b") is None
        hub.answers["thread/start"] = {"thread": 7}
        with pytest.raises(Refused):
            await openings.start({})
        assert 4 in hub.gone

    play(act)


def test_a_thread_that_cannot_be_listened_to_gets_no_turn() -> None:
    """Its end would not be heard: threads without a turn are the hub's to mend."""

    async def act(hub: Hub) -> None:
        hub.answers["thread/resume"] = (-32601, "list_turns is not supported yet")
        turns = book(hub)
        with pytest.raises(Refused, match="not supported"):
            await turns.start(turns.make("t"), {"input": []})
        assert "turn/start" not in hub.methods()
        while hub.gone != [1]:
            await asyncio.sleep(0)

    play(act)


def test_a_hub_that_hangs_up_ends_the_wait_and_not_the_turn() -> None:
    async def act(hub: Hub) -> None:
        turns = book(hub)
        run = turns.make("t")
        reader = run.listen()
        turn = await turns.start(run, {"input": []})
        hub.ends[1].close(1011, "failed")
        await run.wait(10)
        assert turn.status == "inProgress"
        assert [frame async for frame in run.follow(reader)] == []
        while hub.gone != [1]:
            await asyncio.sleep(0)

    play(act)


def test_one_client_asks_for_all_and_goes_when_nobody_asks() -> None:
    async def act(hub: Hub) -> None:
        hub.answers["thread/list"] = {"data": []}
        asker = Asker(hub, idle_s=0.05)
        answers = await asyncio.gather(*(asker.ask("thread/list", {}, dict) for _ in range(5)))
        assert answers == [{"data": []}] * 5
        assert len(hub.ends) == 1
        assert hub.methods().count("initialize") == 1
        while hub.gone != [1]:
            await asyncio.sleep(0.01)
        await asker.ask("thread/list", {}, dict)
        assert len(hub.ends) == 2

    play(act)


@pytest.mark.parametrize(
    ("answer", "status", "kind"),
    [
        ((-32600, "thread not found: x"), 404, "thread-not-found"),
        ((-32600, "Invalid request: no"), 400, "refused"),
        ((-32600, "failed to load configuration: no string\nin `x`\n\n"), 400, "refused"),
        ((-32001, "away"), 503, "overloaded"),
        ((-32050, "restarted"), 503, "server-restarted"),
        ((-32603, "broken"), 503, "server-failed"),
        ((-32603, "failed to submit turn input: EmptyInput"), 400, "refused"),
        ((-1, "whatever"), 400, "refused"),
        ({"data": 7}, 503, "server-failed"),
    ],
)
def test_a_refusal_is_told_in_the_servers_words(answer: Any, status: int, kind: str) -> None:
    async def act(hub: Hub) -> None:
        hub.answers["thread/list"] = answer
        with pytest.raises(Problem) as raised:
            await Asker(hub).ask("thread/list", {}, dict[str, list[int]])
        assert (raised.value.status, raised.value.kind) == (status, kind)
        if isinstance(answer, tuple):
            assert " ".join(answer[1].split()) in raised.value.detail

    play(act)


def test_a_server_that_does_not_come_leaves_nobody_behind() -> None:
    async def act(hub: Hub) -> None:
        hub.answers["initialize"] = (-32001, "The app-server is away.")
        asker = Asker(hub)
        for _ in range(2):
            with pytest.raises(Problem, match="away"):
                await asker.ask("thread/list", {}, dict)
        assert hub.gone == [1, 2]
        turns = book(hub)
        with pytest.raises(Refused):
            await turns.start(turns.make("t"), {})
        assert 3 in hub.gone

    play(act)


def test_what_the_server_asks_of_nobody_special_is_left_to_others() -> None:
    async def act(hub: Hub) -> None:
        turns = book(hub)
        await turns.start(turns.make("t"), {})
        approval = {"threadId": "t", "turnId": "u", "itemId": "i"}
        hub.say({"id": 0, "method": "item/fileChange/requestApproval", "params": approval})
        hub.say({"id": 1, "method": "account/chatgptAuthTokens/refresh", "params": {}})
        for odd in ({"id": "x", "method": "y"}, {"method": 7}, {"id": None, "result": 1}):
            hub.say(odd)
        while hub.asked[-1][0] != "answer":
            await asyncio.sleep(0)
        answers = [message for method, message in hub.asked if method == "answer"]
        assert [(answer["id"], answer["error"]["code"]) for answer in answers] == [(1, -32601)]

    play(act)


# -- the routes, in front of a server that is not done yet with what it has said -------------------


async def ask(hub: Hub, status: str | None, method: str, target: str) -> Any:
    """The answer, where the server has told that the turn stands so."""
    openings, asker = Openings(hub), Asker(hub)

    def told(thread_id: str, turn_id: str) -> str | None:
        return status if (thread_id, turn_id) == ("t", "u") else None

    turns = TurnRoutes(TurnBook(hub, openings), asker, told)
    # Nothing here is about sessions.
    threads = ThreadRoutes(openings, asker, None, told)  # type: ignore[arg-type]
    answer = await Table([turns, threads]).find(Head(method, target, {}), Access.ADMIN)[1](b"")
    assert isinstance(answer, Answer)
    return json.loads(answer.encoded())


INTERRUPT = ("POST", "/v1/threads/t/turns/u/interrupt")
NOT_ACTIVE = (-32600, "no active turn to interrupt")


def test_a_turn_is_interrupted_that_the_server_is_about_to_begin(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(turns_module, "_PAUSE_S", 0.0)
    answers = iter([NOT_ACTIVE, NOT_ACTIVE, {}])

    async def act(hub: Hub) -> None:
        hub.answers["turn/interrupt"] = lambda: next(answers)
        assert await ask(hub, "inProgress", *INTERRUPT) == {"turnId": "u"}

    play(act)


@pytest.mark.parametrize(
    ("status", "refusal", "patience_s", "is_asked_again"),
    [
        ("completed", NOT_ACTIVE, 60, False),
        (None, NOT_ACTIVE, 60, False),
        ("inProgress", (-32600, "thread not found: t"), 60, False),
        # It never begins.
        ("inProgress", NOT_ACTIVE, 0.05, True),
    ],
)
def test_an_interrupt_that_is_refused(
    monkeypatch: pytest.MonkeyPatch,
    status: str | None,
    refusal: tuple[int, str],
    patience_s: float,
    is_asked_again: bool,
) -> None:
    monkeypatch.setattr(turns_module, "_PAUSE_S", 0.0)
    monkeypatch.setattr(turns_module, "_PATIENCE_S", patience_s)

    async def act(hub: Hub) -> None:
        hub.answers["turn/interrupt"] = refusal
        with pytest.raises(Problem, match=refusal[1]):
            await ask(hub, status, *INTERRUPT)
        asked = hub.methods().count("turn/interrupt")
        assert asked > 1 if is_asked_again else asked == 1

    play(act)


@pytest.mark.parametrize("target", ["/v1/threads/t/turns/u", "/v1/threads/t"])
@pytest.mark.parametrize(
    ("told", "shown"),
    [("inProgress", "inProgress"), ("completed", "completed"), (None, "interrupted")],
)
def test_a_turn_is_shown_as_the_server_has_told_it(
    target: str, told: str | None, shown: str
) -> None:
    """On record it may be interrupted, for as long as its end is not written down."""

    async def act(hub: Hub) -> None:
        record = {**TURN, "status": "interrupted", "completedAt": None, "error": None}
        older = {**record, "id": "before", "status": "failed"}
        hub.answers["thread/read"] = {"thread": {"id": "t", "turns": [older, record]}}
        answer = await ask(hub, told, "GET", target)
        if "turns" in answer:
            assert [turn["status"] for turn in answer["turns"]] == ["failed", shown]
        else:
            assert answer["status"] == shown

    play(act)
