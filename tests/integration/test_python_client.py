"""`codexd.client` on a real daemon: both clients, over deaths of server and plugin."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import threading
from typing import Any

import pytest

from codexd.client import AsyncClient, Client, DaemonAbsent, DaemonAway, DaemonError, Refused
from codexd.shapes import FinishedTurn
from tests.support.codex import short_directory
from tests.support.hub_fixtures import MakeRoom
from tests.support.hub_room import HubRoom
from tests.support.scripted_daemon import Answer, ScriptedDaemon
from tests.support.waiting import eventually

pytestmark = pytest.mark.real


@pytest.fixture(scope="module")
def room(make_room: MakeRoom) -> HubRoom:
    return make_room()


@pytest.fixture(scope="module")
def client(room: HubRoom) -> Client:
    return Client(socket_path=room.box.config.runtime.hub_socket_path)


class Running(threading.Thread):
    """A turn in a thread of this process; ``told`` are its notifications."""

    def __init__(self, client: Client, thread_id: str) -> None:
        super().__init__()
        self._client, self._thread_id = client, thread_id
        self.told: list[dict[str, Any]] = []
        self.end: FinishedTurn | None = None
        self.start()

    def run(self) -> None:
        self.end = self._client.run("go", thread=self._thread_id, on_event=self.told.append)

    def ended(self) -> FinishedTurn:
        self.join(60)
        assert self.end is not None
        return self.end


def test_a_turn_and_what_there_is_to_see_of_it(room: HubRoom, client: Client) -> None:
    told: list[dict[str, Any]] = []
    end = client.run("say hello", cwd=str(room.root), on_event=told.append)
    assert (end.status, end.final_response) == ("completed", "Hello, world")
    assert told[-1]["method"] == "turn/completed"
    (session,) = [entry for entry in client.sessions() if entry.title == "say hello"]
    assert session.thread_id is not None
    assert client.threads.get(session.thread_id)["turns"][0]["id"] == end.turn_id
    assert client.threads.list(limit=1)[0]["id"] == session.thread_id
    assert client.turn(session.thread_id, end.turn_id).items[-1]["text"] == "Hello, world"
    again = client.run("again", thread=session.thread_id)
    assert (again.status, again.final_response) == ("completed", "Hello, world")
    assert client.status()["hub"]["ready"] is True
    assert client.approvals() == []
    assert client.close_session(session.session_id).status == "closed"
    with pytest.raises(Refused) as refused:
        client.session("none")
    assert (refused.value.status, refused.value.kind) == (404, "session-not-found")


def test_sessions_of_ones_own(client: Client) -> None:
    made = client.open_session("worker", metadata={"job": "1"})
    assert client.session(made.session_id).metadata == {"job": "1"}
    assert made.session_id in [entry.session_id for entry in client.sessions(purpose="worker")]
    client.close_session(made.session_id)
    active = client.sessions(status="active", purpose="worker")
    assert made.session_id not in [entry.session_id for entry in active]


def test_a_turn_is_steered_and_interrupted(room: HubRoom, client: Client) -> None:
    thread_id = client.threads.start(cwd=str(room.root)).thread_id
    held = room.hold_turn("half")
    running = Running(client, thread_id)
    event = room.event("turn.started", threadId=thread_id)
    eventually(lambda: held not in room.model.queue)
    turn_id = event["detail"]["turnId"]
    client.steer(thread_id, turn_id, "faster")
    client.interrupt(thread_id, turn_id)
    assert running.ended().status == "interrupted"
    assert held.hold is not None
    held.hold.set()


def test_a_turn_ends_as_interrupted_with_its_server(room: HubRoom, client: Client) -> None:
    thread_id = client.threads.start(cwd=str(room.root)).thread_id
    held = room.hold_turn("half")
    running = Running(client, thread_id)
    room.event("turn.started", threadId=thread_id)
    eventually(lambda: held not in room.model.queue)
    os.kill(room.child_pid, signal.SIGKILL)
    end = running.ended()
    assert end.status == "interrupted"
    assert end.error is not None
    assert held.hold is not None
    held.hold.set()


def test_a_turn_is_waited_for_over_a_death_of_the_plugin(room: HubRoom, client: Client) -> None:
    thread_id = client.threads.start(cwd=str(room.root)).thread_id
    held = room.hold_turn("half")
    running = Running(client, thread_id)
    eventually(lambda: [m for m in running.told if m["method"].endswith("/delta")])
    plugin = room.box.plugin()
    plugin.kill()
    plugin.wait(10)
    room.event("plugin.restarted")
    assert held.hold is not None
    held.hold.set()
    end = running.ended()
    assert (end.status, end.final_response) == ("completed", "half")


def test_events_are_followed_over_a_death_of_the_plugin(room: HubRoom, client: Client) -> None:
    newest = client.status()["recentEvents"]["events"][-1]["seq"]
    seen: list[int] = []
    enough = threading.Event()

    def follow() -> None:
        with contextlib.closing(client.events(since=newest, follow=True)) as events:
            for event in events:
                seen.append(event.seq)
                if event.type == "session.registered" and enough.is_set():
                    return

    following = threading.Thread(target=follow)
    following.start()
    client.close_session(client.open_session().session_id)
    eventually(lambda: seen)
    plugin = room.box.plugin()
    plugin.kill()
    plugin.wait(10)

    def opened() -> bool:
        try:
            client.open_session()
        except DaemonAway:
            return False
        return True

    enough.set()
    eventually(opened)
    following.join(30)
    assert not following.is_alive()
    assert seen == list(range(newest + 1, seen[-1] + 1))


def test_the_server_is_restarted_when_it_is_idle(room: HubRoom, client: Client) -> None:
    before = room.child_pid
    change = client.child.restart(when="idle", wait_s=30)
    assert (change.kind, change.status, change.error) == ("restart", "done", None)
    assert room.child_pid != before
    assert client.logs("stderr", lines=5) is not None


def test_the_same_for_asyncio(room: HubRoom) -> None:
    async def main() -> None:
        client = AsyncClient(socket_path=room.box.config.runtime.hub_socket_path)
        told: list[str] = []
        one, two = await asyncio.gather(
            client.run("one", cwd=str(room.root), on_event=lambda m: told.append(m["method"])),
            client.run("two", cwd=str(room.root)),
        )
        assert {one.status, two.status} == {"completed"}
        assert told[-1] == "turn/completed"
        titles = {entry.title for entry in await client.sessions(status="active")}
        assert {"one", "two"} <= titles
        assert (await client.status())["hub"]["ready"] is True
        first = [event.seq async for event in client.events(limit=3)]
        assert first == [1, 2, 3]
        ready = [event.type async for event in client.events(types=["child.ready"])]
        assert set(ready) == {"child.ready"}
        session = await client.open_session(metadata={"a": "b"})
        assert (await client.session(session.session_id)).metadata == {"a": "b"}
        assert (await client.close_session(session.session_id)).status == "closed"
        thread_id = (await client.threads.start(cwd=str(room.root))).thread_id
        assert (await client.threads.get(thread_id))["id"] == thread_id
        assert await client.threads.list(limit=2)
        assert await client.approvals() == []
        with pytest.raises(Refused):
            await client.decide("none", "accept")

    asyncio.run(asyncio.wait_for(main(), 60))


BEGUN = '{"method":"turn/started","params":{"turn":{"id":"u"}}}'
# A daemon that hangs up in a turn, has no server for a while, and then tells of its end. It has
# told that the turn began, or only where it is.
FALTERS = (
    Answer("200 OK", f"event: turn/started\ndata: {BEGUN}\n\n", is_cut=True),
    Answer("200 OK\r\nLocation: /v1/threads/t/turns/u", "", is_cut=True),
)
COMES_BACK = (
    Answer("503 Service Unavailable", '{"type":"urn:codexd:server-failed","detail":"d"}'),
    Answer("200 OK", '{"turnId":"u","status":"completed","finalResponse":"all"}'),
)


@pytest.mark.parametrize("is_async", [False, True])
@pytest.mark.parametrize(("falters", "started"), [(FALTERS[0], []), (FALTERS[1], ["u"])])
def test_a_turn_is_waited_for_also_while_its_server_is_away(
    falters: Answer, started: list[str], is_async: bool
) -> None:
    with short_directory() as directory:
        path = ScriptedDaemon(directory, [falters, *COMES_BACK]).path
        broke, begun = list[DaemonError](), list[str]()
        told: dict[str, Any] = {"on_break": broke.append, "on_start": begun.append}
        if is_async:
            end = asyncio.run(AsyncClient(socket_path=path).run("go", thread="t", **told))
        else:
            end = Client(socket_path=path).run("go", thread="t", **told)
        assert (end.status, end.final_response) == ("completed", "all")
        assert [type(error) for error in broke] == [DaemonAway]
        assert begun == started


def test_nobody_there_is_one_line(room: HubRoom) -> None:
    nobody = str(room.root / "none.sock")
    with pytest.raises(DaemonAbsent, match="No daemon answers"):
        Client(socket_path=nobody).status()
    with pytest.raises(DaemonAbsent, match="No daemon answers"):
        asyncio.run(AsyncClient(socket_path=nobody).status())
    with pytest.raises(DaemonAbsent):
        Client(socket_path=nobody).run("go", thread="t")
    with pytest.raises(DaemonAbsent):
        asyncio.run(AsyncClient(socket_path=nobody).run("go", thread="t"))
    with pytest.raises(DaemonAway):
        next(iter(Client(socket_path=nobody).events(follow=True)))


def test_the_client_finds_the_daemon_and_loads_little(room: HubRoom) -> None:
    program = (
        "import sys; from codexd.client import Client\n"
        "print(Client().status()['identity']['daemonId'])\n"
        "print([name for name in ('tornado', 'circus', 'zmq', 'asyncio', 'jinja2', 'websockets')"
        " if name in sys.modules])"
    )
    inside = room.root / "deep" / "inside"
    inside.mkdir(parents=True)
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=inside,
        env=room.box.env,
        capture_output=True,
        text=True,
        check=True,
        timeout=30,
    )
    identity, loaded = done.stdout.splitlines()
    assert identity == (room.box.read("identity.json") or {})["daemonId"]
    assert loaded == "[]"
