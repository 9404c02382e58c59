"""Twenty clients with turns in parallel, and the server killed again and again in the middle."""

from __future__ import annotations

import random
import threading
import time
from collections import Counter

import pytest

from tests.support.client import AppClient
from tests.support.hub_fixtures import MakeRoom
from tests.support.hub_room import HubRoom
from tests.support.model import Reply
from tests.support.waiting import eventually

pytestmark = pytest.mark.real

CLIENTS = 12
KILLS = 5
SEED = 20260718
RESTARTED = -32050


class Worker:
    """One client that runs turn after turn; notes how each one ended."""

    def __init__(self, room: HubRoom, number: int, ending: threading.Event) -> None:
        self._ending = ending
        self._client: AppClient = room.client(f"worker-{number}")
        self._thread_id = self._client.start_thread()
        self.started: list[str] = []
        self.refused = 0
        self.failure: BaseException | None = None
        self.thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        try:
            while not self._ending.is_set():
                self._one_turn()
            # Nothing is killed any more: this one goes to its end.
            self._one_turn()
            self._client.call("thread/loaded/list")
        except BaseException as error:
            self.failure = error

    def _one_turn(self) -> None:
        params = {"threadId": self._thread_id, "input": [{"type": "text", "text": "go"}]}
        answer = self._client.answer_to(self._client.ask("turn/start", params))
        if "error" in answer:
            self._refused(answer["error"])
            return
        turn_id = answer["result"]["turn"]["id"]
        self.started.append(turn_id)
        self._client.notification("turn/completed", threadId=self._thread_id)

    def _refused(self, error: dict[str, object]) -> None:
        # A thread whose first turn died before it was written down is gone with the server.
        if error["code"] != RESTARTED:
            self._thread_id = self._client.start_thread()
        self.refused += 1

    def endings(self) -> Counter[tuple[str, str]]:
        """Every `turn/completed` of this client's own threads."""
        turns = [
            message["params"]["turn"]
            for message in self._client.seen
            if message.get("method") == "turn/completed"
        ]
        return Counter((turn["id"], turn["status"]) for turn in turns)

    def begun(self) -> set[str]:
        """Every turn that this client was told of."""
        told = [
            message["params"]["turn"]["id"]
            for message in self._client.seen
            if message.get("method") == "turn/started"
        ]
        return {*told, *self.started}


@pytest.mark.parametrize("endpoint", ["stdio", "unix"])
def test_every_turn_ends_exactly_once(make_room: MakeRoom, endpoint: str) -> None:
    # As fast a restart as there is: a crash loop is not what is tested here.
    room = make_room(
        "--restart-backoff-ms", "1", "--restart-backoff-max-ms", "1", endpoint=endpoint
    )
    room.model.default = lambda: Reply(deltas=["x"] * 10, delay_s=0.02)
    chance = random.Random(SEED)
    ending = threading.Event()
    workers = [Worker(room, number, ending) for number in range(CLIENTS)]
    for worker in workers:
        worker.thread.start()
    try:
        pid = 0
        for _ in range(KILLS):
            pid = room.box.wait_ready(other_than=pid)["pid"]
            eventually(lambda: room.live()["runningTurns"] >= CLIENTS // 2)
            # Anywhere in a turn; the only place where time itself is what is wanted.
            time.sleep(chance.random() * 0.2)
            assert room.kill_child() == pid
    finally:
        ending.set()
        for worker in workers:
            worker.thread.join(60)
    assert [worker.failure for worker in workers if worker.failure is not None] == []
    counted: Counter[str] = Counter()
    for worker in workers:
        endings = worker.endings()
        assert set(endings.values()) == {1}
        assert {turn_id for turn_id, _ in endings} == worker.begun()
        counted.update(status for _, status in endings)
    assert set(counted) == {"completed", "interrupted"}
    assert counted["completed"] >= CLIENTS
    assert counted["interrupted"] >= KILLS
    assert room.live()["runningTurns"] == 0
    events = Counter(
        (event["type"], event["detail"]["turnId"])
        for event in room.box.events("turn.completed", "turn.interrupted")
    )
    assert set(events.values()) == {1}
