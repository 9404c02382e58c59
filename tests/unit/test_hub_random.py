"""The hub under random clients, requests and deaths of the child."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule

from codexd.appserver.hub import HubLimits
from tests.support.hub import HubRig

CLIENTS = st.integers(1, 4)
THREADS = st.sampled_from(["a", "b", "c"])
METHODS = st.sampled_from(["thread/list", "config/value/write", "new/thing", "turn/steer"])


class FakeServer:
    """Answers as codex does, only when told to; echoes whose request it was."""

    def __init__(self, rig: HubRig) -> None:
        self.rig = rig
        self.seen = 0
        self.open: list[dict[str, Any]] = []
        self.turns: dict[str, str] = {}
        self.count = 0

    def take(self) -> None:
        self.open += [entry for entry in self.rig.to_child[self.seen :] if "method" in entry]
        self.seen = len(self.rig.to_child)

    def answer(self, index: int) -> None:
        self.take()
        if not self.open:
            return
        request = self.open.pop(index % len(self.open))
        params = request.get("params") or {}
        result: dict[str, Any] = {"for": params.get("tag")}
        method = request["method"]
        if method == "thread/start":
            self.count += 1
            result["thread"] = {"id": params.get("name", f"n{self.count}")}
        elif method == "thread/resume":
            result["thread"] = {"id": params["threadId"], "status": {"type": "idle"}}
        elif method == "turn/start":
            self.count += 1
            turn_id = f"turn-{self.count}"
            result["turn"] = {"id": turn_id, "items": [], "status": "inProgress"}
            self.turns[turn_id] = params["threadId"]
        self.rig.child({"id": request["id"], "result": result})

    def end_turn(self, index: int) -> None:
        if self.turns:
            turn_id = sorted(self.turns)[index % len(self.turns)]
            self.rig.end_turn(self.turns.pop(turn_id), turn_id)

    def die(self) -> None:
        self.take()
        self.open.clear()
        self.turns.clear()


class HubMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.rig = HubRig(HubLimits(wait_s=1000))
        self.server = FakeServer(self.rig)
        self.is_up = True
        self.connected: set[int] = set()
        self.next_number = 1
        self.numbers: dict[int, int] = {}
        self.requests: list[tuple[int, int]] = []
        self.turn_requests: list[tuple[int, int]] = []

    def _number(self, client: int) -> int:
        if client not in self.numbers:
            self.numbers[client] = self.next_number
            self.next_number += 1
            self.rig.connect(self.numbers[client])
        return self.numbers[client]

    def _ask(self, client: int, method: str, params: dict[str, Any]) -> tuple[int, int]:
        number = self._number(client)
        request = self.rig.ask(number, method, {**params, "tag": number})
        self.requests.append((number, request))
        return number, request

    @rule(client=CLIENTS, method=METHODS, thread=THREADS)
    def ask(self, client: int, method: str, thread: str) -> None:
        self._ask(client, method, {"threadId": thread})

    @rule(client=CLIENTS, thread=THREADS)
    def start_thread(self, client: int, thread: str) -> None:
        self._ask(client, "thread/start", {"name": thread})

    @rule(client=CLIENTS, thread=THREADS)
    def resume_thread(self, client: int, thread: str) -> None:
        self._ask(client, "thread/resume", {"threadId": thread})

    @rule(client=CLIENTS, thread=THREADS)
    def start_turn(self, client: int, thread: str) -> None:
        self._ask(client, "thread/resume", {"threadId": thread})
        self.turn_requests.append(self._ask(client, "turn/start", {"threadId": thread}))

    @rule(client=CLIENTS)
    def leave(self, client: int) -> None:
        number = self.numbers.pop(client, None)
        if number is not None:
            self.rig.do(self.rig.hub.client_closed(number))

    @precondition(lambda self: self.is_up)
    @rule(index=st.integers(0, 5))
    def answer(self, index: int) -> None:
        self.server.answer(index)

    @precondition(lambda self: self.is_up)
    @rule(index=st.integers(0, 5))
    def end_turn(self, index: int) -> None:
        self.server.end_turn(index)

    @precondition(lambda self: self.is_up)
    @rule()
    def die(self) -> None:
        self.is_up = False
        self.server.die()
        self.rig.lose()

    @precondition(lambda self: not self.is_up)
    @rule()
    def come_back(self) -> None:
        self.is_up = True
        self.rig.ready()

    def teardown(self) -> None:
        """Let everything come to its end, and then look at what each client got."""
        if not self.is_up:
            self.come_back()
        for _ in range(1000):
            self.server.take()
            if not self.server.open:
                break
            self.server.answer(0)
        while self.server.turns:
            self.server.end_turn(0)
        assert not self.server.open
        self._check_answers()
        self._check_turns()

    def _check_answers(self) -> None:
        still_there = set(self.numbers.values())
        for number, request in self.requests:
            answers = self.rig.answers(number, request)
            assert len(answers) == 1 if number in still_there else len(answers) <= 1
            for answer in answers:
                owner = answer.get("result", {}).get("for")
                assert owner in (None, number), json.dumps(answer)

    def _check_turns(self) -> None:
        still_there = set(self.numbers.values())
        for number, request in self.turn_requests:
            answers = self.rig.answers(number, request)
            if number not in still_there or "result" not in answers[0]:
                continue
            turn_id = answers[0]["result"]["turn"]["id"]
            ends = [
                entry
                for entry in self.rig.got(number, "turn/completed")
                if entry["params"]["turn"]["id"] == turn_id
            ]
            assert len(ends) == 1, (number, turn_id, ends)


HubMachine.TestCase.settings = settings(max_examples=40, stateful_step_count=40, deadline=None)
TestHub = HubMachine.TestCase
