"""The connection to a server that lives is cut in mid-turn, and made again."""

from __future__ import annotations

import contextlib
import socket
import threading

import pytest

from tests.support.client import AppClient
from tests.support.codex import CodexServer, free_port, short_directory
from tests.support.daemon import daemon_box
from tests.support.model import ModelServer, Reply
from tests.support.waiting import eventually

pytestmark = pytest.mark.real


def _far(address: str | tuple[str, int]) -> socket.socket:
    far = socket.socket(socket.AF_UNIX if isinstance(address, str) else socket.AF_INET)
    far.connect(address)
    return far


class Relay:
    """Passes bytes between a socket of its own and a server's, until it is cut."""

    def __init__(self, near: str | tuple[str, int], target: str | tuple[str, int]) -> None:
        self._target = target
        self._pairs: list[tuple[socket.socket, socket.socket]] = []
        self.passes = threading.Event()
        self.passes.set()
        self._listener = socket.socket(socket.AF_UNIX if isinstance(near, str) else socket.AF_INET)
        self._listener.bind(near)
        self._listener.listen()
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                self.passes.wait()
                far = _far(self._target)
                self._pairs.append((near, far))
                for one, other in ((near, far), (far, near)):
                    threading.Thread(target=self._pass, args=(one, other), daemon=True).start()

    @staticmethod
    def _pass(one: socket.socket, other: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := one.recv(65536):
                other.sendall(data)

    def cut(self) -> None:
        """Break off what there is; nothing passes until ``passes`` is set."""
        self.passes.clear()
        pairs, self._pairs = self._pairs, []
        for pair in pairs:
            for end in pair:
                with contextlib.suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)
                end.close()

    def close(self) -> None:
        """Let go of everything."""
        self._listener.close()
        self.cut()
        self.passes.set()


@pytest.mark.parametrize(
    ("kind", "ends_in_the_gap"), [("unix", True), ("unix", False), ("ws", True)]
)
def test_what_was_missed_is_told_and_no_turn_is_called_interrupted(
    kind: str, *, ends_in_the_gap: bool
) -> None:
    with short_directory() as place, contextlib.closing(ModelServer()) as model:
        server = CodexServer(place, None if kind == "unix" else f"ws://127.0.0.1:{free_port()}")
        model.write_config(server.home)
        server.start_ready()
        port = free_port()
        if kind == "unix":
            relay = Relay(f"{place}/relay.sock", server.address)
            endpoint = f"unix://{place}/relay.sock"
        else:
            relay = Relay(("127.0.0.1", port), server.address)
            endpoint = f"ws://127.0.0.1:{port}"
        flags = ("--server-strategy", "external", "--server-endpoint", endpoint)
        try:
            with daemon_box(place / "repo", *flags) as box:
                box.start()
                client = AppClient(box.config.runtime.hub_socket_path, "one")
                thread_id = client.start_thread()
                reply = Reply(deltas=["all ", "of it"], hold=threading.Event())
                model.queue.append(reply)
                turn_id = client.start_turn(thread_id)
                client.notification("item/agentMessage/delta", threadId=thread_id)
                assert reply.hold is not None
                relay.cut()
                eventually(lambda: box.events("link.lost"), what="the loss")
                if ends_in_the_gap:
                    reply.hold.set()
                    eventually(lambda: _is_over(server, turn_id), what="the turn's end")
                relay.passes.set()
                if not ends_in_the_gap:
                    eventually(lambda: len(box.events("child.ready")) == 2, what="the next link")
                    reply.hold.set()
                done = client.notification("turn/completed", threadId=thread_id)
                assert (done["turn"]["id"], done["turn"]["status"]) == (turn_id, "completed")
                items = [
                    message["params"]["item"]
                    for message in client.seen
                    if message.get("method") == "item/completed"
                ]
                assert [item["text"] for item in items if item["type"] == "agentMessage"] == [
                    "all of it"
                ]
                client.close()
                box.stop_cleanly()
        finally:
            relay.close()
            server.kill()


def _is_over(server: CodexServer, turn_id: str) -> bool:
    """Whether the server has written down that a turn is over."""
    written = "".join(path.read_text() for path in server.home.rglob("rollout-*.jsonl"))
    return any(turn_id in line and '"task_complete"' in line for line in written.splitlines())
