"""`codexd app-server --listen`: a server of a tool's own, with a hub behind it."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.frames import Frame, Opcode
from websockets.sync.client import ClientConnection, connect, unix_connect

from codexd.client import listening
from codexd.client.doorway import Doorway
from codexd.client.hub_wire import HubConnector
from codexd.client.listening import ClientListener
from tests.support.codex import short_directory
from tests.support.daemon import SETTINGS_PREFIXES
from tests.support.echo_thread import EchoThread
from tests.support.waiting import eventually

# As tools call it: what they say goes through two command lines.
CODEX = [sys.executable, "-c", "from codexd.cli.codex import main; main()"]
BANNER = re.compile(
    r"codex app-server \(WebSockets\)\n"
    r"  listening on: (?P<url>ws://[^/\n]+:[1-9]\d*)\n"
    r"  readyz: http://[^\n]+/readyz\n"
    r"  healthz: http://[^\n]+/healthz\n"
    r"  note: (?P<note>[^\n]+)\n"
)
UPGRADE = (
    b"GET / HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)


class Place:
    """A hub that echoes, and a listener in front of it, in this process."""

    def __init__(self, directory: Path) -> None:
        self.path = directory / "hub.sock"
        self.daemon_runs = True
        self.told: list[str] = []
        bound = socket.socket()
        bound.bind(("127.0.0.1", 0))
        self.port = bound.getsockname()[1]
        self.listener = ClientListener(
            bound,
            Doorway(lambda: True),
            lambda: HubConnector(str(self.path), lambda: self.daemon_runs),
            self.told.append,
        )
        self.thread = threading.Thread(target=self.listener.run)
        self.thread.start()

    def client(self) -> ClientConnection:
        return connect(f"ws://127.0.0.1:{self.port}", compression=None).__enter__()

    def close(self) -> None:
        for _ in range(2):
            with contextlib.suppress(OSError):
                self.listener.stop()
        self.thread.join(20)
        assert not self.thread.is_alive()


@pytest.fixture
def directory() -> Iterator[Path]:
    with short_directory() as made:
        yield made


@pytest.fixture
def place(directory: Path) -> Iterator[Place]:
    made = Place(directory)
    try:
        yield made
    finally:
        made.close()


def test_each_connection_is_a_client_of_its_own(place: Place) -> None:
    with EchoThread(place.path) as server:
        assert server.echo is not None
        hub = server.echo.hub
        one, two = place.client(), place.client()
        for client, text in ((one, '{"a":1}'), (two, '{"b":2}'), (one, '{"c":"é"}')):
            client.send(text)
            assert client.recv(10) == text
        # One that leaves right after its last word is heard, and its place at the hub is free.
        two.send('{"last":2}')
        two.close()
        eventually(lambda: hub.closed_clients, what="its end at the hub")
        assert json.loads(hub.messages[-1][1]) == {"last": 2}
        one.send('{"d":4}')
        assert one.recv(10) == '{"d":4}'
        one.close()


def test_a_large_message_passes_both_ways(place: Place) -> None:
    text = json.dumps({"x": "y" * (20 << 20)})
    with (
        EchoThread(place.path),
        connect(f"ws://127.0.0.1:{place.port}", max_size=None, compression=None) as client,
    ):
        client.send(text)
        assert client.recv(30) == text


def test_when_the_daemon_goes_its_clients_are_told_and_the_next_one_serves_again(
    place: Place,
) -> None:
    with EchoThread(place.path):
        client = place.client()
        client.send('{"a":1}')
        assert client.recv(10) == '{"a":1}'
        place.daemon_runs = False
    with pytest.raises(ConnectionClosed) as closed:
        client.recv(10)
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 1001
    assert "The daemon closed the connection" in closed.value.rcvd.reason
    (told,) = place.told
    assert "start it with `codexd start`" in told
    with EchoThread(place.path):
        client = place.client()
        client.send('{"b":2}')
        assert client.recv(10) == '{"b":2}'
        client.close()


def test_a_hub_that_is_not_there_yet_is_waited_for(place: Place) -> None:
    client = place.client()
    client.send('{"a":1}')
    with EchoThread(place.path):
        assert client.recv(10) == '{"a":1}'
        client.close()


def test_one_that_pings_and_does_not_read_is_cut_off(place: Place) -> None:
    ping = Frame(Opcode.PING, b"x" * 125).serialize(mask=True)
    with EchoThread(place.path), socket.create_connection(("127.0.0.1", place.port)) as client:
        client.sendall(UPGRADE)
        assert client.recv(4096).startswith(b"HTTP/1.1 101 ")
        client.settimeout(20)

        def flood() -> None:
            for _ in range(5_000):
                client.sendall(ping * 1_000)

        with pytest.raises(OSError, match=r"reset|[Bb]roken"):
            flood()


MASKED = b"\0\0\0\0"


@pytest.mark.parametrize(
    ("frames", "code"),
    [
        (b"\xff" * 100, 1002),
        (b"\x81\x02{}", 1002),
        (b"\x81\x82" + MASKED + b"\xff\xfe", 1007),
        (b"\x81\xff\0\0\0\0\x7f\xff\xff\xff" + MASKED, 1009),
        (b"\x80\x80" + MASKED, 1002),
    ],
    ids=["noise", "unmasked", "no-text", "too-long", "no-beginning"],
)
def test_one_who_speaks_no_websocket_is_told_and_the_others_stay(
    place: Place, frames: bytes, code: int
) -> None:
    with EchoThread(place.path), socket.create_connection(("127.0.0.1", place.port)) as raw:
        other = place.client()
        raw.settimeout(20)
        raw.sendall(UPGRADE)
        data = raw.recv(4096)
        raw.sendall(frames)
        while piece := raw.recv(4096):
            data += piece
        close = data.partition(b"\r\n\r\n")[2]
        assert (close[:1], int.from_bytes(close[2:4], "big")) == (b"\x88", code)
        other.send('{"a":1}')
        assert other.recv(10) == '{"a":1}'
        other.close()


@pytest.mark.parametrize(("limit", "files"), [(2, 1 << 16), (400, 24)])
def test_too_many_are_refused_and_the_others_stay(
    place: Place, monkeypatch: pytest.MonkeyPatch, limit: int, files: int
) -> None:
    monkeypatch.setattr(listening, "MAX_CLIENTS", limit)
    # Each client is two, sixteen are the listener's, and one is for who is refused.
    monkeypatch.setattr(listening, "files_left_above", lambda _: files)
    with EchoThread(place.path):
        first, *others = [place.client() for _ in range(2 if limit == 2 else 3)]
        first.send('{"a":1}')
        assert first.recv(10) == '{"a":1}'
        with pytest.raises(InvalidStatus) as refused:
            place.client()
        assert refused.value.response.status_code == 503
        first.close()
        eventually(lambda: _comes_in(place), what="a place for another")
        for other in others:
            other.close()


def _comes_in(place: Place) -> bool:
    try:
        place.client().close()
    except InvalidStatus:
        return False
    return True


def test_at_its_end_it_says_farewell(place: Place) -> None:
    with EchoThread(place.path), place.client() as client:
        client.send('{"a":1}')
        assert client.recv(10) == '{"a":1}'
        place.listener.stop()
        place.thread.join(10)
        with pytest.raises(ConnectionClosed) as closed:
            client.recv(10)
    assert closed.value.rcvd is not None
    assert (closed.value.rcvd.code, closed.value.rcvd.reason) == (1001, listening.ENDING)


# -- the command ----------------------------------------------------------------------------------


class Command:
    """`codex app-server --listen …` in a process, served by codexd."""

    def __init__(
        self, directory: Path, *arguments: str, preexec: Callable[[], None] | None = None
    ) -> None:
        clean = {k: v for k, v in os.environ.items() if not k.startswith(SETTINGS_PREFIXES)}
        self.errors = directory / "errors"
        with open(self.errors, "wb") as errors:
            self.process = subprocess.Popen(
                [*CODEX, "app-server", *arguments],
                env={**clean, "BAA_CODEXD_STATE_DIR": str(directory), "HOME": str(directory)},
                cwd=directory,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=errors,
                preexec_fn=preexec,
            )

    def end(self, number: int) -> tuple[int, bytes]:
        """Its exit code and what it printed."""
        self.process.send_signal(number)
        output, _ = self.process.communicate(timeout=20)
        return self.process.returncode, output

    def banner(self) -> re.Match[str]:
        """What it says once it listens."""
        text = eventually(
            lambda: BANNER.search(self.errors.read_text()), what="a word of where it listens"
        )
        assert isinstance(text, re.Match)
        return text


@pytest.fixture
def hub(directory: Path) -> Iterator[Path]:
    """A hub that echoes where the daemon of ``directory`` would have its own."""
    with EchoThread(directory / "codexd" / "run" / "codexd.sock"):
        yield directory


@contextlib.contextmanager
def running(
    directory: Path, *arguments: str, preexec: Callable[[], None] | None = None
) -> Iterator[Command]:
    command = Command(directory, *arguments, preexec=preexec)
    try:
        yield command
    finally:
        command.process.kill()
        command.process.communicate()


def ignore_hangups() -> None:
    signal.signal(signal.SIGHUP, signal.SIG_IGN)


def test_it_tells_its_port_as_codex_does_and_ends_well(hub: Path) -> None:
    with running(hub, "--listen", "ws://127.0.0.1:0", preexec=ignore_hangups) as command:
        banner = command.banner()
        assert "binds localhost only" in banner["note"]
        with connect(banner["url"]) as client:
            client.send('{"a":1}')
            assert client.recv(10) == '{"a":1}'
        # Of a signal that was ignored when it was started it still hears nothing.
        command.process.send_signal(signal.SIGHUP)
        assert command.end(signal.SIGTERM) == (0, b"")
        assert BANNER.fullmatch(command.errors.read_text())


def test_a_token_is_asked_for(hub: Path) -> None:
    (hub / "token").write_text("sesame\n")
    auth = ("--ws-auth", "capability-token", "--ws-token-file", "token")
    with running(hub, "--listen", "ws://0.0.0.0:0", *auth) as command:
        banner = command.banner()
        assert "auth is required for non-localhost" in banner["note"]
        url = banner["url"].replace("0.0.0.0", "127.0.0.1")
        with pytest.raises(InvalidStatus) as refused:
            connect(url).__enter__()
        assert refused.value.response.status_code == 401
        headers = {"Authorization": "Bearer sesame"}
        with connect(url, additional_headers=headers) as client:
            client.send('{"a":1}')
            assert client.recv(10) == '{"a":1}'
        assert command.end(signal.SIGINT) == (0, b"")


def test_a_unix_socket_is_there_as_long_as_it_runs(hub: Path) -> None:
    path = hub / "tool.sock"
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(str(path))
    # Who may use it is a matter of the file: codex asks for no token there.
    auth = ("--ws-auth", "capability-token", "--ws-token-sha256", "0" * 64)
    with running(hub, "--listen", "unix://tool.sock", *auth) as command:

        def client() -> ClientConnection | None:
            with contextlib.suppress(OSError):
                return unix_connect(str(path)).__enter__()
            return None

        connected = eventually(client, what="a client")
        assert isinstance(connected, ClientConnection)
        connected.send('{"a":1}')
        assert connected.recv(10) == '{"a":1}'
        assert os.stat(path).st_mode & 0o777 == 0o600
        with running(hub, "--listen", f"unix://{path}") as second:
            assert second.process.wait(20) == 1
        assert "already" in second.errors.read_text()
        assert command.end(signal.SIGTERM) == (0, b"")
    assert not path.exists()


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("ws://0.0.0.0:0",), 1, "refusing to start non-loopback websocket listener"),
        (("ws://127.0.0.1:0", "--ws-issuer", "x"), 1, "websocket auth flags require"),
        (("ws://127.0.0.1:0", "--ws-auth", "bogus"), 2, "bogus"),
        (("unix://file",), 1, "it is no socket"),
        (("unix:///nowhere/at/all.sock",), 1, "No such file or directory"),
        (("ws://127.0.0.1:{taken}",), 1, "Address already in use"),
        (("wss://127.0.0.1:0",), 2, "wss://127.0.0.1:0"),
    ],
    ids=str,
)
def test_what_it_cannot_do_is_said_in_one_line(
    hub: Path, arguments: tuple[str, ...], code: int, said: str
) -> None:
    (hub / "file").write_text("mine")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        words = [word.format(taken=taken.getsockname()[1]) for word in arguments]
        with running(hub, "--listen", *words) as command:
            assert command.process.wait(20) == code
    line = command.errors.read_text()
    assert said in line
    assert line.count("\n") == 1
    assert (hub / "file").read_text() == "mine"


def test_without_a_daemon_it_says_so_at_once(directory: Path) -> None:
    with running(directory, "--listen", "ws://127.0.0.1:0") as command:
        assert command.process.wait(20) == 1
    assert command.errors.read_text().startswith("codexd: No daemon serves ")
