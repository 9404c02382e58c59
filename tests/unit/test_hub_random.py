"""The hub under random clients, requests and deaths of the child."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule

from codexd.hub.hub import HubLimits
from tests.support.hub import HubRig

CLIENTS = st.integers(1, 4)
THREADS = st.sampled_from(["a", "b", "c"])
APPROVAL = "item/commandExecution/requestApproval"
METHODS = st.sampled_from(["thread/list", "config/value/write", "new/thing", "turn/steer"])


class FakeServer:
    """Answers as codex does, only when told to; echoes whose request it was."""

    def __init__(self, rig: HubRig) -> None:
        self.rig = rig
        self.seen = 0
        self.open: list[dict[str, Any]] = []
        self.turns: dict[str, str] = {}
        self.count = 0
        self.approvals: dict[int, str] = {}
        self.approval_count = 0

    def take(self) -> None:
        new = self.rig.to_child[self.seen :]
        self.seen = len(self.rig.to_child)
        self.open += [entry for entry in new if "method" in entry]
        for entry in new:
            if "method" not in entry:
                # Fails for a second answer, and for one to the server before.
                self.resolve(entry["id"])

    def ask(self, thread_id: str) -> None:
        self.take()
        self.approval_count += 1
        self.approvals[self.approval_count] = thread_id
        params = {"threadId": thread_id, "turnId": "any", "itemId": "any"}
        self.rig.child({"id": self.approval_count, "method": APPROVAL, "params": params})

    def resolve(self, request_id: int) -> None:
        thread_id = self.approvals.pop(request_id)
        self.rig.tell("serverRequest/resolved", threadId=thread_id, requestId=request_id)

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
            turn_id = self._turn_on(params["threadId"])
            result["turn"] = {"id": turn_id, "items": [], "status": "inProgress"}
        self.rig.child({"id": request["id"], "result": result})

    def _turn_on(self, thread_id: str) -> str:
        # Where one runs, a start joins it.
        running = [turn_id for turn_id, on in self.turns.items() if on == thread_id]
        if running:
            return running[0]
        self.count += 1
        self.turns[f"turn-{self.count}"] = thread_id
        return f"turn-{self.count}"

    def refuse(self, index: int) -> None:
        """A passing trouble: a resume of the hub's own fails, and would not a moment later."""
        self.take()
        resumes = [entry for entry in self.open if "excludeTurns" in (entry["params"] or {})]
        if resumes:
            request = resumes[index % len(resumes)]
            self.open.remove(request)
            error = {"code": -32603, "message": "failed to load configuration"}
            self.rig.child({"id": request["id"], "error": error})

    def end_turn(self, index: int) -> None:
        self.take()
        if self.turns:
            turn_id = sorted(self.turns)[index % len(self.turns)]
            thread_id = self.turns.pop(turn_id)
            for request_id in [key for key, on in self.approvals.items() if on == thread_id]:
                self.resolve(request_id)
            self.rig.end_turn(thread_id, turn_id)

    def die(self, unread: int) -> list[dict[str, Any]]:
        """The last ``unread`` requests were never read."""
        self.take()
        left = self.open[len(self.open) - min(unread, len(self.open)) :]
        self.open.clear()
        self.turns.clear()
        self.approvals.clear()
        return left


class HubMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.rig = HubRig(HubLimits(wait_s=100_000))
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

    @precondition(lambda self: self.is_up)
    @rule(client=CLIENTS, thread=THREADS)
    def run_turn(self, client: int, thread: str) -> None:
        # One answer at a time seldom gets as far as a turn that runs when the server dies.
        self.start_turn(client, thread)
        self._answer_all()

    @rule(client=CLIENTS)
    def leave(self, client: int) -> None:
        number = self.numbers.pop(client, None)
        if number is not None:
            self.rig.leave(number)

    @precondition(lambda self: self.is_up)
    @rule(index=st.integers(0, 5))
    def answer(self, index: int) -> None:
        self.server.answer(index)

    @precondition(lambda self: self.is_up)
    @rule(thread=THREADS)
    def ask_for_leave(self, thread: str) -> None:
        self.server.ask(thread)

    @precondition(lambda self: self.is_up)
    @rule(client=CLIENTS)
    def give_leave(self, client: int) -> None:
        number = self._number(client)
        for asked in self.rig.got(number, APPROVAL):
            self.rig.say(number, {"id": asked["id"], "result": {"decision": "accept"}})

    @precondition(lambda self: self.is_up)
    @rule(index=st.integers(0, 5))
    def end_turn(self, index: int) -> None:
        self.server.end_turn(index)

    @precondition(lambda self: self.is_up)
    @rule(index=st.integers(0, 5))
    def refuse(self, index: int) -> None:
        self.server.refuse(index)

    @rule(seconds=st.sampled_from([0.1, 0.6, 1.5, 20.0]))
    def wait(self, seconds: float) -> None:
        self.rig.tick(seconds)

    @precondition(lambda self: self.is_up)
    @rule(unread=st.integers(0, 3))
    def die(self, unread: int) -> None:
        self.is_up = False
        self.rig.lose(*self.server.die(unread))

    @precondition(lambda self: not self.is_up)
    @rule()
    def come_back(self) -> None:
        self.is_up = True
        self.rig.ready()

    def teardown(self) -> None:
        """Let everything come to its end, and then look at what each client got."""
        if not self.is_up:
            self.come_back()
        self._answer_all()
        while self.server.turns:
            self.server.end_turn(0)
        self._answer_all()
        for request_id in list(self.server.approvals):
            self.server.resolve(request_id)
        assert self.rig.hub.snapshot()["waitingApprovals"] == 0
        assert not any(record.metadata for record in self.rig.sessions.values())
        self._check_approvals()
        self._check_answers()
        self._check_turns()

    def _answer_all(self) -> None:
        for _ in range(1000):
            self.server.take()
            if self.server.open:
                self.server.answer(0)
            elif self.rig.hub.snapshot()["resumingThreads"]:
                self.rig.tick(1)
            else:
                return
        raise AssertionError("the hub asks without end")

    def _check_answers(self) -> None:
        still_there = set(self.numbers.values())
        for number, request in self.requests:
            answers = self.rig.answers(number, request)
            assert len(answers) == 1 if number in still_there else len(answers) <= 1
            for answer in answers:
                owner = answer.get("result", {}).get("for")
                assert owner in (None, number), json.dumps(answer)

    def _check_approvals(self) -> None:
        for number in self.numbers.values():
            # Who resumes once more is asked once more, under the same id.
            asked = sorted({entry["id"] for entry in self.rig.got(number, APPROVAL)})
            told = self.rig.got(number, "serverRequest/resolved")
            assert sorted(entry["params"]["requestId"] for entry in told) == asked

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


HubMachine.TestCase.settings = settings(max_examples=60, stateful_step_count=40)
TestHub = HubMachine.TestCase
