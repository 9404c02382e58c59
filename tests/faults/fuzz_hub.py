"""Bent messages from both sides: `python -m tests.faults.fuzz_hub --messages N [--seed S]`.

A hub between clients and a server that both say anything: messages of codex's own schema, valid
or bent, in frames and lines that are cut anywhere, answers to nothing, answers twice, deaths in
between. What must hold all the same is in :class:`Fuzz`. By hand; some thousand messages of it are
in the suite (tests/integration/test_hub_bent.py). It prints the seed of a run that fails.
"""

from __future__ import annotations

import argparse
import json
import random
import tempfile
import time
from collections import Counter, deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

from websockets.client import ClientProtocol
from websockets.frames import Frame
from websockets.protocol import State
from websockets.server import ServerProtocol
from websockets.uri import parse_uri

from codexd.hub import jsonrpc
from codexd.hub.actions import Action, CloseClient, Emit, SessionChanged, ToChild, ToClient
from codexd.hub.hub import Hub, HubLimits
from codexd.hub.profile import NOTHING, ClientProfile
from codexd.wire.frames import MessageAssembler
from codexd.wire.lines import LineSplitter, as_line, as_utf8
from tests.support import bent
from tests.support.bent import Json, Samples
from tests.support.hub import INITIALIZED
from tests.support.schema import Schemas

_EPOCH = 400
_CLIENTS = 6
_PROFILE = ClientProfile(cwd="/w", config={"model": "m", "a.b": 1}, private=True)


class Talk:
    """All that a run draws its messages from."""

    def __init__(self, schemas: Schemas, seed: int) -> None:
        rng = random.Random(seed)
        self.requests = Samples(schemas.messages("ClientRequest"), rng)
        self.told = Samples(schemas.messages("ServerNotification"), rng)
        self.asked = Samples(schemas.messages("ServerRequest"), rng)
        self.results = Samples(schemas.answers(), rng)


class Peer:
    """A client: what it sends goes through frames, and what it gets is counted."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.frames = ClientProtocol(parse_uri("ws://x/"), state=State.OPEN, max_size=None)
        self.server = ServerProtocol(state=State.OPEN, max_size=None)
        self.assembler = MessageAssembler(self.server)
        self.asked: Counter[bytes] = Counter()
        self.answered: Counter[bytes] = Counter()
        self.to_answer: deque[Json] = deque(maxlen=50)

    @property
    def is_there(self) -> bool:
        return self.server.state is State.OPEN

    def arriving(self, rng: random.Random, data: bytes) -> list[bytes]:
        """Send one message in pieces; the messages that come out at the other end."""
        cut = rng.randrange(len(data) + 1) if rng.random() < 0.3 else len(data)
        self.frames.send_text(data[:cut], fin=cut == len(data))
        if cut < len(data):
            self.frames.send_ping(b"?")
            self.frames.send_continuation(data[cut:], fin=True)
        self.server.receive_data(b"".join(self.frames.data_to_send()))
        got = [event for event in self.server.events_received() if isinstance(event, Frame)]
        messages = [self.assembler.add(frame) for frame in got]
        return [message for message in messages if message is not None]


def hears(message: dict[str, Json]) -> bool:
    """Whether codex 0.163 takes a message at all; what it does not, it passes over (measured)."""
    if "method" in message:
        trace = message.get("trace")
        return trace is None or (isinstance(trace, dict) and _texts(trace))
    if "result" in message:
        return True
    error = message.get("error")
    return (
        isinstance(error, dict)
        and isinstance(error.get("message"), str)
        and type(error.get("code")) is int
        and -(2**63) <= error["code"] < 2**63
    )


def _texts(trace: dict[str, Json]) -> bool:
    parts = [trace.get("traceparent"), trace.get("tracestate")]
    return all(part is None or isinstance(part, str) for part in parts)


class Fuzz:
    """One run.

    No exception leaves the hub; every request of a client that is there is answered once, and
    nothing else is; all that goes out is JSON; the server is given no answer that it would pass
    over; nothing waits to be sent for who has left; and when everybody has left and time has
    passed, nothing is kept.
    """

    def __init__(self, talk: Talk, seed: int) -> None:
        self.talk = talk
        self.rng = random.Random(seed)
        self.hub = Hub(limits=HubLimits(), id_prefix="hub-x-", endpoint="stdio://x")
        self.now = 0.0
        self.is_up = False
        self.peers: dict[int, Peer] = {}
        self.opened = 0
        # Requests that the server has read and not answered, by the raw id.
        self.open: dict[str, str] = {}
        self.done: deque[str] = deque(maxlen=50)
        self.asked_ids = 0
        self.splitter = LineSplitter(self._from_child)
        self.sent = 0

    # -- what goes out -----------------------------------------------------------------------

    def _do(self, actions: list[Action]) -> None:
        for action in actions:
            match action:
                case ToClient(number, data):
                    self._to_client(number, data)
                case ToChild(data):
                    self._to_child(data)
                case CloseClient(number):
                    self._leave(number)
                case Emit(detail=detail):
                    json.dumps(detail).encode()
                case SessionChanged(record):
                    assert record.thread_id

    def _to_client(self, number: int, data: bytes) -> None:
        message = json.loads(data)
        peer = self.peers.get(number)
        if peer is None:
            return
        if "method" not in message:
            raw_id = _raw(message["id"])
            peer.answered[raw_id] += 1
            assert peer.answered[raw_id] <= peer.asked[raw_id], (number, data[:300])
        elif "id" in message:
            peer.to_answer.append(message["id"])

    def _to_child(self, data: bytes) -> None:
        assert b"\n" not in as_line(data)[:-1]
        if jsonrpc.is_too_deep(data):
            assert b'"id"' not in data[:40] or not _is_answer(data), data[:300]
            return
        message = json.loads(data)
        if "id" not in message:
            return
        if "method" not in message:
            assert hears(message), data[:300]
        elif hears(message):
            self.open[message["id"]] = message["method"]

    # -- what comes in -----------------------------------------------------------------------

    def connect(self) -> None:
        self.opened += 1
        peer = self.peers[self.opened] = Peer(self.opened)
        profile = _PROFILE if self.rng.random() < 0.3 else NOTHING
        self._do(self.hub.client_opened(peer.number, self.now, profile))
        if self.rng.random() < 0.9:
            params = {"clientInfo": {"name": "c", "version": "1"}}
            self._say(peer, bent.text({"id": 0, "method": "initialize", "params": params}))
            self._say(peer, b'{"method":"initialized"}')

    def _say(self, peer: Peer, data: bytes) -> None:
        for arrived in peer.arriving(self.rng, data):
            message = jsonrpc.parse(arrived)
            if message is not None and message.id is not None and message.method is not None:
                peer.asked[_raw(json.loads(message.id))] += 1
            self._do(self.hub.client_message(peer.number, arrived, self.now))
        if not peer.is_there:
            self._leave(peer.number)

    def _leave(self, number: int) -> None:
        self.peers.pop(number, None)
        self._do(self.hub.client_closed(number, self.now))
        assert not self.hub._requests._load.of(number), "what waited of who left still waits"

    def _child_says(self, data: bytes) -> None:
        stream = data + b"\n"
        cut = self.rng.randrange(len(stream))
        self.splitter.feed(stream[:cut])
        self.splitter.feed(stream[cut:])

    def _from_child(self, line: bytes) -> None:
        if self.is_up:
            self._note_answer(line)
            self._do(self.hub.child_message(line, self.now))

    def _note_answer(self, line: bytes) -> None:
        message = jsonrpc.parse(line)
        if message is not None and message.method is None and message.id is not None:
            raw_id = json.loads(message.id)
            if isinstance(raw_id, str) and self.open.pop(raw_id, None) is not None:
                self.done.append(raw_id)

    def shaped(self, message: dict[str, Json]) -> bytes:
        """A message as it is, or bent, or spoilt."""
        roll = self.rng.random()
        if roll < 0.45:
            return bent.text(message)
        if roll < 0.85:
            return bent.text(bent.bend(self.rng, message))
        return bent.spoil(self.rng, bent.text(message))

    # -- steps -------------------------------------------------------------------------------

    def client_asks(self) -> None:
        peer = self._some_peer()
        method = self.rng.choice(self.talk.requests.methods)
        message = self.talk.requests.one(self.rng, method)
        message["id"] = self.rng.choice((0, 1, "a", "hub-x-1", 2**70, -1, self.sent, "é", ""))
        self._say(peer, self.shaped(message))

    def client_answers(self) -> None:
        peer = self._some_peer()
        known = peer.to_answer[0] if peer.to_answer and self.rng.random() < 0.8 else 7
        if peer.to_answer and self.rng.random() < 0.5:
            peer.to_answer.popleft()
        result: dict[str, Json] = {"id": known, "result": {"decision": "accept"}}
        refusal: dict[str, Json] = {"id": known, "error": {"code": -32601, "message": "no"}}
        self._say(peer, self.shaped(self.rng.choice((result, refusal))))

    def client_tells(self) -> None:
        told = {"method": self.rng.choice(("initialized", "x/y")), "params": bent.junk(self.rng)}
        self._say(self._some_peer(), self.shaped(told))

    def child_tells(self) -> None:
        method = self.rng.choice(self.talk.told.methods)
        message = self.talk.told.one(self.rng, method)
        self._child_says(self.shaped(message))

    def child_asks(self) -> None:
        method = self.rng.choice(self.talk.asked.methods)
        message = self.talk.asked.one(self.rng, method)
        self.asked_ids += 1
        message["id"] = self.rng.choice((0, 1, 2, "a", self.asked_ids, self.asked_ids))
        self._child_says(self.shaped(message))

    def child_answers(self) -> None:
        if self.open and self.rng.random() < 0.85:
            raw_id = self.rng.choice(list(self.open))
        else:
            raw_id = self.rng.choice((*self.done, "hub-x-0", "hub-x-999999", "codexd-1"))
        self._child_says(self.shaped(self._answer(raw_id, self.open.get(raw_id, ""))))

    def _answer(self, raw_id: str, method: str) -> dict[str, Json]:
        if self.rng.random() < 0.2:
            return {"id": raw_id, "error": {"code": -32600, "message": "no rollout found"}}
        is_known = method in self.talk.results.methods
        result = self.talk.results.one(self.rng, method) if is_known else {}
        return {"id": raw_id, "result": result}

    def time_passes(self) -> None:
        self.now += self.rng.choice((0.1, 0.6, 6.0, 30.0))
        self._do(self.hub.tick(self.now))

    def child_dies(self) -> None:
        if not self.is_up:
            self._child_comes()
            return
        self.is_up = False
        waiting = list(self.open)
        self.open.clear()
        unread = waiting[len(waiting) - self.rng.randrange(len(waiting) + 1) :]
        messages = [bent.text({"id": raw_id, "method": "x"}) for raw_id in unread]
        self._do(self.hub.child_lost("it was killed", self.now, messages))
        if self.rng.random() < 0.5:
            self._do(self.hub.child_ended(self.now))

    def _child_comes(self) -> None:
        self.is_up = True
        self.splitter = LineSplitter(self._from_child)
        result = as_utf8(self.shaped(dict(INITIALIZED)))
        if jsonrpc.parse(result) is None:
            result = bent.text(INITIALIZED)
        same = self.rng.random() < 0.3
        self._do(self.hub.child_ready(result, self.now, same_child=same, child_pid=7))

    def peer_leaves(self) -> None:
        self._leave(self._some_peer().number)

    def _some_peer(self) -> Peer:
        if not self.peers or (len(self.peers) < _CLIENTS and self.rng.random() < 0.02):
            self.connect()
        return self.rng.choice(list(self.peers.values()))

    # -- a run -------------------------------------------------------------------------------

    def epoch(self, messages: int) -> None:
        """So many messages; then everything comes to its end, and is looked at."""
        steps: list[tuple[Callable[[], None], int]] = [
            (self.client_asks, 30),
            (self.client_answers, 6),
            (self.client_tells, 2),
            (self.child_tells, 24),
            (self.child_asks, 6),
            (self.child_answers, 24),
            (self.time_passes, 6),
            (self.child_dies, 1),
            (self.peer_leaves, 1),
        ]
        what, weights = zip(*steps, strict=True)
        for step in self.rng.choices(what, weights, k=messages):
            self.sent += 1
            step()
        self._settle()
        self._check_answers()
        for number in list(self.peers):
            self._leave(number)
        self._settle()
        self._forget()
        assert not (kept := self._kept()), kept

    def _settle(self) -> None:
        """The server answers whatever it is asked, until it is asked no more."""
        if not self.is_up:
            self._child_comes()
        for _ in range(400):
            for raw_id, method in list(self.open.items()):
                self.splitter.feed(as_line(bent.text(self._answer(raw_id, method))))
            self.now += 1.0
            self._do(self.hub.tick(self.now))
            if not self.open and not self.hub.snapshot()["waitingRequests"]:
                return
        raise AssertionError(f"requests without end: {self.hub.snapshot()}")

    def _check_answers(self) -> None:
        for peer in self.peers.values():
            assert peer.answered == peer.asked, (peer.number, peer.asked - peer.answered)

    def _forget(self) -> None:
        """A server that has nothing open any more, and as long as it would keep a thread."""
        self.is_up = False
        self._do(self.hub.child_lost("it was killed", self.now))
        self.open.clear()
        self.is_up = True
        result = bent.text(INITIALIZED)
        self._do(self.hub.child_ready(result, self.now, same_child=False, child_pid=8))
        self._settle_empty()
        self.now += HubLimits().unload_s + 200
        self._do(self.hub.tick(self.now))
        self._settle_empty()

    def _settle_empty(self) -> None:
        for _ in range(2000):
            if not self.open:
                return
            for raw_id in list(self.open):
                self.splitter.feed(b'{"id":"%s","result":{"data":[]}}\n' % raw_id.encode())
        raise AssertionError("requests without end")

    def _kept(self) -> dict[str, Any]:
        """What the hub holds that is not empty, by where it is."""
        about = ("server", "serverVersion", "messages")
        counts = {key: value for key, value in self.hub.snapshot().items() if key not in about}
        found = {key: value for key, value in counts.items() if value}
        for name, part in _parts(self.hub):
            if len(part) > _ALLOWED.get(name.rpartition(".")[2], 0):
                found[name] = f"{len(part)}: {str(part)[:200]}"
        return found


# What a hub keeps by design, and how much of it at most.
_ALLOWED = {
    "_settings": 1000,
    "_told": 100,
    "_over": 1000,
    # Counts by known methods and codes.
    "requests": 2500,
    "durations": 250,
    "turns": 10,
}


def _parts(hub: Hub) -> list[tuple[str, Any]]:
    """Every container in the parts of a hub."""
    found = []
    for owner, part in vars(hub).items():
        for name, value in _members(part):
            found.append((f"{owner}.{name}", value))
            found += [(f"{owner}.{name}.{key}", inner) for key, inner in _members(value)]
    containers = (dict, list, set, deque)
    return [(name, value) for name, value in found if isinstance(value, containers)]


def _members(part: Any) -> list[tuple[str, Any]]:
    if not type(part).__module__.startswith("codexd.hub"):
        return []
    return list(vars(part).items()) if hasattr(part, "__dict__") else []


def _raw(value: Json) -> bytes:
    return json.dumps(value).encode()


def _is_answer(data: bytes) -> bool:
    message = jsonrpc.parse(data)
    return message is not None and message.method is None


def run(schemas: Schemas, messages: int, seed: int) -> None:
    """So many messages; fails with the seed that shows it."""
    talk = Talk(schemas, seed)
    for number, _ in enumerate(range(0, messages, _EPOCH)):
        try:
            Fuzz(talk, seed + number).epoch(_EPOCH)
        except BaseException as error:
            error.add_note(f"the seed was {seed}, and the epoch {seed + number}")
            raise


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--messages", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    begun = time.monotonic()
    with tempfile.TemporaryDirectory() as directory:
        run(Schemas(Path(directory)), given.messages, given.seed)
    print(f"{given.messages} messages in {time.monotonic() - begun:.0f} s: all held")


if __name__ == "__main__":
    main()
