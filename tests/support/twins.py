"""What clients of a bare server get, and what those of the hub get, over the same script.

`python -m tests.support.twins [--codex BINARY]` plays it on both and prints every difference
that is not in the table of those that are meant.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.support.client import AppClient
from tests.support.codex import CodexServer, codex_path
from tests.support.daemon import DaemonBox
from tests.support.model import ModelServer, Reply
from tests.support.waiting import eventually

Message = dict[str, Any]
# How long what the bare server told may take to come through the hub.
_LATE_S = 20.0
# Where the system does not tell whether a process rests.
_QUIET_S = 0.25
NAMES = ("a", "b", "c")
_MARK = "a mark"

# What is another in every run and on every machine.
_VARYING = {
    "emittedAtMs",
    "createdAt",
    "updatedAt",
    "startedAt",
    "startedAtMs",
    "completedAt",
    "completedAtMs",
    "recencyAt",
    "sectionEnteredAt",
    "durationMs",
    "timeUsedSeconds",
    "processId",
    # The server counts its requests for all connections, the hub for each client.
    "requestId",
    "modifiedAtMs",
    "createdAtMs",
    "nextCursor",
    "backwardsCursor",
    "itemsBackwardsCursor",
    "turnsBackwardsCursor",
}
_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
_STAMP = re.compile(r"\d{4}-\d\d-\d\dT\d\d-\d\d-\d\d|\d{4}/\d\d/\d\d")
_PORT = re.compile(r"(?<=127\.0\.0\.1:)\d+")
_HASH = re.compile(r"sha256:[0-9a-f]{64}")


class Names:
    """Gives what varies from run to run names that do not depend on who was first by chance."""

    def __init__(self, *places: str) -> None:
        self._places = sorted(places, key=len, reverse=True)
        self._ids: dict[str, str] = {}

    def meet(self, messages: list[Message]) -> None:
        """Name the ids in what came together, by what is said of them."""
        for message in sorted(messages, key=self._masked):
            self.plain(message)

    def _masked(self, message: Message) -> str:
        plain = self._without_varying(message, lambda _found: "ID")
        return json.dumps(plain, sort_keys=True)

    def plain(self, value: Any) -> Any:
        """``value`` as it would be in any run."""
        return self._without_varying(value, self._id)

    def _without_varying(self, value: Any, named: Callable[[str], str]) -> Any:
        if isinstance(value, dict):
            return {
                self._text(key, named): None
                if key in _VARYING and entry is not None
                else self._without_varying(entry, named)
                for key, entry in sorted(value.items())
            }
        if isinstance(value, list):
            return [self._without_varying(entry, named) for entry in value]
        return self._text(value, named) if isinstance(value, str) else value

    def _text(self, text: str, named: Callable[[str], str]) -> str:
        for place in self._places:
            text = text.replace(place, "PLACE")
        text = _PORT.sub("PORT", _HASH.sub("HASH", _STAMP.sub("TIME", text)))
        return _UUID.sub(lambda found: named(found[0]), text)

    def _id(self, found: str) -> str:
        return self._ids.setdefault(found, f"id-{len(self._ids) + 1}")


@dataclass
class Record:
    """By step and client, the messages that came, in order."""

    steps: list[tuple[str, dict[str, list[Message]]]] = field(default_factory=list)


def rest(pids: tuple[int, ...]) -> bool:
    """Whether nothing goes on in these processes: every one of their threads sleeps.

    Unlike a time in which nothing comes, that says the same on a busy machine.
    """
    if not os.path.isdir("/proc/self/task"):
        time.sleep(_QUIET_S)
        return True
    states = [state for pid in pids for state in _states(pid)]
    return all(state == "S" for state in states)


def _states(pid: int) -> Iterator[str]:
    for task in Path(f"/proc/{pid}/task").iterdir():
        with contextlib.suppress(OSError):
            # The command's name, in brackets, may hold anything.
            yield (task / "stat").read_text("utf-8", "replace").rpartition(")")[2].split()[0]


class Stage:
    """Three clients on a server, and what each of them hears.

    ``pids`` are the processes that answer them; ``expected`` is what came on the other side.
    """

    def __init__(
        self,
        connect: Callable[[str, bool], AppClient],
        model: ModelServer,
        place: Path,
        pids: tuple[int, ...],
        expected: Record | None = None,
    ) -> None:
        self._pids = pids
        self.model = model
        self.place = place
        self._connect = connect
        self._expected = expected
        self.record = Record()
        self.clients: dict[str, AppClient] = {}
        self._told: dict[str, int] = {}
        self._asked: set[tuple[str, Any]] = set()

    def join(
        self,
        name: str,
        *,
        experimental: bool = True,
        opt_out: tuple[str, ...] = (),
        called: str = "twin",
        **more: bool,
    ) -> None:
        """A client connects and initializes."""
        client = self._connect(name, False)
        self.clients[name] = client
        self._told[name] = 0
        capabilities: Message = {"experimentalApi": experimental, **more}
        if opt_out:
            capabilities["optOutNotificationMethods"] = list(opt_out)
        client.initialize(called, **capabilities)

    def ask(self, who: str, method: str, /, **params: Any) -> Message:
        """A request's answer, whether a result or an error."""
        client = self.clients[who]
        return client.answer_to(client.ask(method, params))

    def has_answer(self, name: str, request: int) -> bool:
        """Whether a request is answered."""
        self._drain(self.clients[name], 0.01)
        return any(
            message.get("id") == request and "method" not in message
            for message in self.clients[name].seen
        )

    def hear(self, name: str, method: str, **params: Any) -> Message:
        """Wait for a notification."""
        return self.clients[name].notification(method, **params)

    def asked(self, name: str, method: str) -> Message:
        """Wait for a request of the server."""
        request = self.clients[name].wait_for(
            lambda message: (
                message.get("method") == method
                and "id" in message
                and (name, message["id"]) not in self._asked
            )
        )
        self._asked.add((name, request["id"]))
        return request

    def answer(self, name: str, request: Message, result: Message) -> None:
        """Answer a request of the server."""
        self.clients[name].send({"id": request["id"], "result": result})

    def turn(self, name: str, thread_id: str, text: str = "go") -> str:
        """A turn from its start to its end, as its client sees it."""
        answer = self.ask(
            name, "turn/start", threadId=thread_id, input=[{"type": "text", "text": text}]
        )
        turn_id: str = answer["result"]["turn"]["id"]
        self.hear(name, "turn/completed", threadId=thread_id)
        return turn_id

    def told(self, names: str, method: str, **params: Any) -> None:
        """Wait until each of them was told what the server tells after its answer.

        Behind the hub that is not waited for: if it does not come, it is a difference.
        """
        if self._expected is None:
            for name in names.split():
                self.hear(name, method, **params)

    def done(self, step: str) -> None:
        """The step is over: note what each client got since the last one."""
        if self._expected is not None:
            self._wait_for(self._expected.steps[len(self.record.steps)][1])
        self._settle()
        got = {name: client.seen[self._told[name] :] for name, client in self.clients.items()}
        for name, client in self.clients.items():
            self._told[name] = len(client.seen)
            client.pass_over()
        self.record.steps.append((step, got))

    def _wait_for(self, expected: Mapping[str, list[Message]]) -> None:
        deadline = time.monotonic() + _LATE_S
        for name, client in self.clients.items():
            while len(client.seen) - self._told[name] < len(expected.get(name, ())):
                if time.monotonic() > deadline:
                    return
                self._drain(client, 0.05)

    def _settle(self) -> None:
        """Wait until all has come: a request that each asks is answered last, and then they rest.

        What a thing caused is under way as long as a thread works on it, and what has been sent
        comes before the answer to what is asked later.
        """
        deadline = time.monotonic() + _LATE_S
        is_over = False
        while not is_over and time.monotonic() < deadline:
            is_over = rest(self._pids)
            for client in self.clients.values():
                before = len(client.seen)
                client.send({"id": _MARK, "method": "thread/loaded/list", "params": {}})
                client.seen.remove(client.answer_to(_MARK))
                is_over = is_over and len(client.seen) == before

    @staticmethod
    def _drain(client: AppClient, seconds: float) -> bool:
        got = False
        with contextlib.suppress(TimeoutError):
            while True:
                client.receive(seconds)
                got = True
        return got

    def close(self) -> None:
        """Hang up for all."""
        for client in self.clients.values():
            client.close()


@contextlib.contextmanager
def bare(binary: str, model: ModelServer) -> Iterator[Stage]:
    """The server itself, on a socket of its own."""
    with tempfile.TemporaryDirectory(prefix="tw-", dir="/tmp") as text:
        place = Path(text)
        server = CodexServer(place, binary=binary, home="codex-home")
        _furnish(place, server.home, model)
        server.start_ready()
        assert server.process is not None
        stage = Stage(
            lambda name, ready: AppClient(server.socket_path, name, initialize=ready),
            model,
            place,
            (server.process.pid,),
        )
        try:
            yield stage
        finally:
            stage.close()
            server.kill()


@contextlib.contextmanager
def hub(binary: str, model: ModelServer, endpoint: str, expected: Record) -> Iterator[Stage]:
    """The same server behind the hub."""
    with tempfile.TemporaryDirectory(prefix="tw-", dir="/tmp") as text:
        place = Path(text)
        flags = ["--server-command", binary]
        if endpoint == "unix":
            flags += ["--server-endpoint", f"unix://{place / 'child.sock'}"]
        box = DaemonBox(place, *flags)
        _furnish(place, box.codex_home, model)
        stage: Stage | None = None
        try:
            box.start()
            path = box.config.runtime.hub_socket_path
            child = box.wait_ready()
            stage = Stage(
                lambda name, ready: AppClient(path, name, initialize=ready),
                model,
                place,
                (child["pid"], box.plugin().pid),
                expected,
            )
            yield stage
        finally:
            if stage is not None:
                stage.close()
            box.clean_up()


def _furnish(place: Path, home: Path, model: ModelServer) -> None:
    model.write_config(home, approval_policy='"on-request"', sandbox_mode='"read-only"')
    (place / "work").mkdir()
    (place / "work" / "file.txt").write_text("text")


# -- the script ------------------------------------------------------------------------------


def play(stage: Stage) -> None:
    """Some thirty requests and turns of three clients."""
    work = str(stage.place / "work")
    for name in NAMES:
        stage.join(name)
    stage.done("all are there")

    first = stage.ask("a", "thread/start", cwd=work)["result"]["thread"]["id"]
    stage.done("a starts a thread")
    stage.turn("a", first)
    stage.done("a runs a turn")
    stage.ask("b", "thread/resume", threadId=first, excludeTurns=True)
    stage.done("b resumes the thread")
    stage.turn("b", first)
    stage.done("b runs a turn on it")
    stage.ask("c", "thread/name/set", threadId=first, name="a name")
    stage.done("c names it")
    stage.ask("a", "thread/goal/set", threadId=first, objective="an aim", status="paused")
    stage.done("a sets a goal")
    stage.ask("a", "thread/goal/get", threadId=first)
    stage.ask("a", "thread/goal/clear", threadId=first)
    stage.done("a clears it")
    stage.ask("a", "thread/settings/update", threadId=first, model="other")
    stage.told("a b", "thread/settings/updated", threadId=first)
    stage.done("a changes settings")
    stage.ask("a", "thread/metadata/update", threadId=first, gitInfo={"branch": "x"})
    stage.done("a changes metadata")
    _sections(stage, first)
    _approval(stage, first, "a's turn asks for leave, and b gives it")
    _interrupt(stage, first)
    _steer(stage, first)
    target = {"type": "custom", "instructions": "look"}
    stage.ask("b", "review/start", threadId=first, target=target)
    stage.hear("b", "turn/completed", threadId=first)
    stage.done("b has a review")
    _not_on_it(stage, first)
    _lists(stage, first, work)
    _login(stage)
    _config(stage)
    _fork_and_archive(stage, first)
    _subagent(stage, work)
    _dynamic_tool(stage, work)
    _capabilities(stage, work)
    _plain_on_a_thread(stage, first)
    stage.join("other", called="another")
    stage.done(_ANOTHER_NAME)
    _of_its_own(stage, first)
    _leaving(stage, work)


def _sections(stage: Stage, thread_id: str) -> None:
    made = stage.ask("c", "threadSection/create", name="a section")
    stage.done("c makes a section")
    section = made.get("result", {}).get("section", {}).get("id")
    stage.ask("b", "thread/section/move", threadId=thread_id, sectionId=section)
    stage.done("b moves the thread there")
    stage.ask("a", "threadSection/list")
    stage.done("a lists the sections")


def _approval(stage: Stage, thread_id: str, step: str) -> None:
    call = {
        "cmd": "true",
        "login": False,
        "sandbox_permissions": "require_escalated",
        "justification": "why",
    }
    stage.model.queue.append(Reply(call=("exec_command", call)))
    stage.ask("a", "turn/start", threadId=thread_id, input=[{"type": "text", "text": "ask"}])
    method = "item/commandExecution/requestApproval"
    asked = {name: stage.asked(name, method) for name in ("a", "b")}
    stage.answer("b", asked["b"], {"decision": "accept"})
    stage.hear("a", "turn/completed", threadId=thread_id)
    stage.done(step)


def _interrupt(stage: Stage, thread_id: str) -> None:
    reply = Reply(deltas=["begun"], hold=_never())
    stage.model.queue.append(reply)
    turn = stage.ask("a", "turn/start", threadId=thread_id, input=[{"type": "text", "text": "x"}])
    stage.hear("a", "item/agentMessage/delta", threadId=thread_id)
    turn_id = turn["result"]["turn"]["id"]
    stage.ask("b", "turn/interrupt", threadId=thread_id, turnId=turn_id)
    stage.hear("a", "turn/completed", threadId=thread_id)
    assert reply.hold is not None
    reply.hold.set()
    stage.done("b interrupts a's turn")


def _steer(stage: Stage, thread_id: str) -> None:
    reply = Reply(deltas=["begun"], hold=_never())
    stage.model.queue.append(reply)
    turn = stage.ask("a", "turn/start", threadId=thread_id, input=[{"type": "text", "text": "x"}])
    stage.hear("a", "item/agentMessage/delta", threadId=thread_id)
    stage.ask(
        "b",
        "turn/steer",
        threadId=thread_id,
        expectedTurnId=turn["result"]["turn"]["id"],
        input=[{"type": "text", "text": "this way"}],
    )
    assert reply.hold is not None
    reply.hold.set()
    stage.hear("a", "turn/completed", threadId=thread_id)
    stage.done("b steers a's turn")


def _not_on_it(stage: Stage, thread_id: str) -> None:
    """c does this and that to a thread that it does not hear, until it does."""
    target = {"type": "custom", "instructions": "look"}
    stage.ask("c", "review/start", threadId=thread_id, target=target)
    stage.hear("a", "turn/completed", threadId=thread_id)
    stage.done("c has a review of the others' thread")
    made = stage.ask("c", "project/create", idempotencyKey="k", name="a project", roots=[])
    project = made.get("result", {}).get("project", {}).get("id")
    stage.ask("c", "thread/metadata/update", threadId=thread_id, projectId=project)
    stage.told("a b c", "thread/project/updated", threadId=thread_id)
    stage.done("c puts the thread into a project")
    stage.ask("b", "thread/resume", threadId=thread_id)
    stage.done("b resumes it with all its turns, which is deprecated")
    turn_id = stage.turn("a", thread_id)
    stage.ask("c", "thread/revert", threadId=thread_id, beforeTurnId=turn_id)
    stage.told("a b c", "thread/reverted", threadId=thread_id)
    stage.done("c reverts a turn")
    stage.turn("a", thread_id)
    stage.done("c hears the next one")
    stage.ask("c", "thread/unsubscribe", threadId=thread_id)
    stage.ask("c", "command/exec", command=["true"], tty=True)
    stage.done("c leaves it")


def _lists(stage: Stage, thread_id: str, work: str) -> None:
    stage.ask("c", "thread/list")
    stage.ask("c", "thread/loaded/list")
    stage.ask("c", "thread/read", threadId=thread_id)
    stage.ask("c", "model/list")
    stage.ask("c", "skills/list", cwds=[work])
    stage.ask("c", "mcpServerStatus/list")
    stage.ask("c", "experimentalFeature/list")
    stage.ask("c", "fs/readFile", path=f"{work}/file.txt")
    stage.ask("c", "no/such/method")
    stage.ask("c", "thread/read", threadId="no-such-thread")
    stage.ask("c", "turn/start", threadId=42)
    stage.done("c reads this and that")
    stage.ask("c", "fs/watch", watchId="w", path=work)
    Path(work, "new.txt").write_text("new")
    stage.hear("c", "fs/changed")
    stage.ask("c", "fs/unwatch", watchId="w")
    stage.done("c watches a directory")
    stage.ask("c", "command/exec", command=["true"], cwd=work)
    stage.done("c runs a command")


def _login(stage: Stage) -> None:
    stage.ask("b", "account/read")
    stage.ask("b", "account/rateLimits/read")
    stage.ask("b", "account/login/start", type="apiKey", apiKey="sk-not-a-key")
    stage.told("a b c", "account/updated")
    stage.done("b logs in with a key")
    stage.ask("c", "account/logout")
    stage.done("c logs out")


def _config(stage: Stage) -> None:
    stage.ask("b", "config/read")
    stage.ask(
        "b", "config/value/write", keyPath="model_verbosity", value="low", mergeStrategy="replace"
    )
    stage.done("b writes the configuration")
    stage.ask("b", "experimentalFeature/enablement/set", enablement={"apps": False})
    stage.done("b sets a feature for the process")


def _fork_and_archive(stage: Stage, thread_id: str) -> None:
    forked = stage.ask("b", "thread/fork", threadId=thread_id, excludeTurns=True)
    fork_id = forked["result"]["thread"]["id"]
    stage.done("b forks the thread")
    stage.turn("b", fork_id)
    stage.done("b runs a turn on the fork")
    stage.ask("c", "thread/archive", threadId=fork_id)
    stage.done("c archives the fork")
    stage.ask("c", "thread/unarchive", threadId=fork_id)
    stage.done("c takes it out again")
    stage.ask("a", "thread/compact/start", threadId=thread_id)
    stage.hear("a", "turn/completed", threadId=thread_id)
    stage.done("a compacts the thread")
    stage.ask("a", "thread/delete", threadId=fork_id)
    stage.done("a deletes the fork")


def _subagent(stage: Stage, work: str) -> None:
    thread_id = stage.ask("c", "thread/start", cwd=work)["result"]["thread"]["id"]
    arguments = {"message": "help", "task_name": "helper"}
    stage.model.queue.append(Reply(call=("multi_agent.spawn_agent", arguments)))
    stage.turn("c", thread_id, "have it done")
    stage.done("c's turn has a helper")


def _dynamic_tool(stage: Stage, work: str) -> None:
    schema = {"type": "object", "properties": {}}
    tool = {"type": "function", "name": "mine", "description": "a tool", "inputSchema": schema}
    opened = stage.ask("b", "thread/start", cwd=work, dynamicTools=[tool])
    thread_id = opened.get("result", {}).get("thread", {}).get("id")
    stage.done("b brings a tool of its own")
    if thread_id is None:
        return
    stage.model.queue.append(Reply(call=("mine", {})))
    stage.ask("b", "turn/start", threadId=thread_id, input=[{"type": "text", "text": "x"}])
    request = stage.asked("b", "item/tool/call")
    stage.answer("b", request, {"contentItems": [], "success": True})
    stage.hear("b", "turn/completed", threadId=thread_id)
    stage.done("b's tool is called")


def _capabilities(stage: Stage, work: str) -> None:
    stage.join("plain", experimental=False)
    stage.ask("plain", "mock/experimentalMethod")
    stage.ask("plain", "thread/start", cwd=work, mockExperimentalField="x")
    stage.ask("plain", "thread/settings/update", threadId="x")
    stage.ask("plain", "thread/start", cwd=work)
    stage.done("one without experimentalApi tries")
    stage.join("deaf", opt_out=("thread/started", "thread/status/changed", "turn/started"))
    thread_id = stage.ask("deaf", "thread/start", cwd=work)["result"]["thread"]["id"]
    stage.turn("deaf", thread_id)
    stage.done("one that opted out runs a turn")


def _plain_on_a_thread(stage: Stage, thread_id: str) -> None:
    stage.ask("plain", "thread/resume", threadId=thread_id, excludeTurns=True)
    stage.done("one without experimentalApi resumes a thread")
    stage.ask("a", "thread/settings/update", threadId=thread_id, model="third")
    stage.told("a b", "thread/settings/updated", threadId=thread_id)
    stage.done("a changes settings beside it")
    stage.turn("plain", thread_id)
    stage.done("it runs a turn")
    _approval(stage, thread_id, "a's turn asks for leave beside it")


def _of_its_own(stage: Stage, thread_id: str) -> None:
    """What is of codex 0.169 is an unknown method to an older one, on both sides."""
    turn_id = stage.turn("a", thread_id)
    stage.done("a runs one turn more")
    reply = Reply(deltas=["begun"], hold=_never())
    stage.model.queue.append(reply)
    sampling = stage.clients["c"].ask(
        "thread/sample", {"threadId": thread_id, "prompt": "say", "expectedTurnId": turn_id}
    )
    eventually(
        lambda: reply not in stage.model.queue or stage.has_answer("c", sampling),
        what="a sample",
    )
    stage.ask("b", "thread/sample/cancel", requestId=sampling)
    stage.ask("c", "thread/sample/cancel", requestId=sampling)
    stage.clients["c"].answer_to(sampling)
    assert reply.hold is not None
    reply.hold.set()
    stage.model.queue.clear()
    stage.ask("c", "userVerification/cancel", requestId=sampling)
    stage.done("c cancels a sample")
    stage.ask("c", "thread/guardianReview", threadId="0198f0a0-0000-7000-8000-000000000001")
    stage.ask("c", "thread/guardianReview", threadId=thread_id)
    stage.done("c has the thread reviewed")
    stage.turn("a", thread_id)
    stage.done("a runs a turn beside the reviewer")
    stage.join("human", requiredHumanApproval=True)
    stage.ask("human", "thread/resume", threadId=thread_id, excludeTurns=True)
    stage.done("one who approves as a person resumes the thread")
    _approval(stage, thread_id, "a's turn asks for leave beside that one")


def _leaving(stage: Stage, work: str) -> None:
    thread_id = stage.ask("a", "thread/start", cwd=work)["result"]["thread"]["id"]
    stage.turn("a", thread_id)
    stage.ask("b", "thread/resume", threadId=thread_id, excludeTurns=True)
    stage.done("a and b are on a thread")
    stage.ask("a", "thread/unsubscribe", threadId=thread_id)
    stage.ask("a", "thread/unsubscribe", threadId=thread_id)
    stage.done("a leaves it, twice")
    stage.turn("b", thread_id)
    stage.done("b goes on alone")


def _never() -> threading.Event:
    return threading.Event()


# -- what differs on purpose -----------------------------------------------------------------

_ANOTHER_NAME = "one with another name joins"


@dataclass(frozen=True, slots=True)
class Meant:
    """Differences that are meant: in which step, in which messages, and why."""

    step: str
    is_of: Callable[[Message], bool]
    reason: str


# The reasons stand in docs/explanation/hub.md as they are here.
MEANT = (
    Meant(
        _ANOTHER_NAME,
        lambda message: "userAgent" in message.get("result", {}),
        "`userAgent` of later clients with another name: codex puts the name of whoever came last "
        "into what it sends; the hub introduces itself once, and says what is really sent.",
    ),
)

# What the server itself tells nearly always, and at times does not (codex 0.163).
CHANCE = (
    Meant(
        "c archives the fork",
        lambda message: (
            message.get("method") == "thread/status/changed"
            and message["params"]["status"] == {"type": "notLoaded"}
        ),
        "Of a thread that it archives, it left out in one run of some two hundred that it is not "
        "loaded any more.",
    ),
)


# -- the comparison --------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Difference:
    """A message that came on one side only, or (``side`` is "moved") not in the same order."""

    step: str
    client: str
    side: str
    message: Message

    @property
    def is_meant(self) -> bool:
        """Whether it is in the table of those that are."""
        table = (*MEANT, *CHANCE)
        return any(entry.step == self.step and entry.is_of(self.message) for entry in table)

    def __str__(self) -> str:
        text = json.dumps(self.message, sort_keys=True)
        what = "in another order" if self.side == "moved" else f"only {self.side}"
        return f"{self.step} | {self.client} | {what}: {text[:600]}"


def _plain(message: Message, names: Names) -> Message:
    plain: Message = names.plain(message)
    return {**plain, "id": None} if "method" in plain and "id" in plain else plain


def differences(one: Record, other: Record, plain: tuple[Names, Names]) -> list[Difference]:
    """What a client of one side got in a step and its twin did not, or not in that order.

    Only answers have no place: the server's own come before or after what it tells meanwhile.
    """
    found = []
    for (step, got), (_, twin) in zip(one.steps, other.steps, strict=True):
        for names, side in zip(plain, (got, twin), strict=True):
            names.meet([message for messages in side.values() for message in messages])
        for client in got:
            sides = [
                [json.dumps(_plain(message, names), sort_keys=True) for message in messages]
                for names, messages in zip(plain, (got[client], twin.get(client, [])), strict=True)
            ]
            found += [
                Difference(step, client, side, json.loads(text))
                for side, text in _apart(sides[0], sides[1])
            ]
    return found


def _apart(bare: list[str], hub: list[str]) -> Iterator[tuple[str, str]]:
    missing, more = Counter(bare) - Counter(hub), Counter(hub) - Counter(bare)
    yield from (("bare", text) for text in missing.elements())
    yield from (("hub", text) for text in more.elements())
    if not missing and not more:
        order = [[text for text in side if "method" in json.loads(text)] for side in (bare, hub)]
        moved = [text for text, twin in zip(*order, strict=True) if text != twin]
        yield from (("moved", text) for text in moved[:1])


def compare(binary: str, endpoint: str) -> list[Difference]:
    """Play the script on the bare server and behind the hub."""
    with contextlib.closing(ModelServer()) as model, bare(binary, model) as stage:
        play(stage)
        one, first = stage.record, Names(str(stage.place / "codex-home"), str(stage.place))
    with contextlib.closing(ModelServer()) as model, hub(binary, model, endpoint, one) as stage:
        play(stage)
        names = Names(str(stage.place / "codex-home"), str(stage.place))
        return differences(one, stage.record, (first, names))


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--codex", default=codex_path(), help="the binary  [default: the extra's]")
    parser.add_argument("--endpoint", choices=("stdio", "unix"), default="stdio")
    arguments = parser.parse_args()
    found = compare(os.path.abspath(arguments.codex), arguments.endpoint)
    found = [difference for difference in found if not difference.is_meant]
    for difference in found:
        print(difference)
    print(f"{len(found)} differences")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
