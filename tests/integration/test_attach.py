"""`codexd attach`: stdin and stdout joined to a server's socket."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import pytest
from websockets.http11 import Request
from websockets.server import ServerProtocol

from codexd.api.server import ServerLimits
from tests.support.codex import CodexServer, short_directory
from tests.support.daemon import CODEXD, SETTINGS_PREFIXES
from tests.support.echo_thread import EchoThread
from tests.support.model import ModelServer, Reply
from tests.support.waiting import eventually

INITIALIZE = {
    "id": 1,
    "method": "initialize",
    "params": {"clientInfo": {"name": "pipe", "title": "Pipe", "version": "1"}},
}

# `codexd attach` looks its socket up in the configuration; here it is told.
ATTACH_TO = """
import sys
from codexd.cli.attach import attach_to
from codexd.cli.options import CliError
try:
    attach_to(sys.argv[1], 0, 1, lambda: sys.argv[2] == "daemon")
except CliError as error:
    error.show()
    sys.exit(error.exit_code)
"""


def attach_command(socket_path: str, daemon: str = "no-daemon") -> list[str]:
    return [sys.executable, "-c", ATTACH_TO, socket_path, daemon]


@pytest.fixture
def place() -> Iterator[Path]:
    with short_directory() as directory:
        yield directory


@contextlib.contextmanager
def attached(command: list[str]) -> Iterator[subprocess.Popen[bytes]]:
    """One attach whose process ends with the block."""
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def pipe_of(stream: IO[bytes] | None) -> IO[bytes]:
    assert stream is not None
    return stream


def end_of(process: subprocess.Popen[bytes]) -> tuple[int, bytes, bytes]:
    """Its exit code and what it said, with its stdin open all the time."""
    code = process.wait(20)
    return code, pipe_of(process.stdout).read(), pipe_of(process.stderr).read()


def accepting(connected: socket.socket) -> ServerProtocol:
    """A server's end that has accepted an upgrade; its answer is still to be sent."""
    protocol = ServerProtocol()
    while not (events := protocol.events_received()):
        protocol.receive_data(connected.recv(65536))
    request = events[0]
    assert isinstance(request, Request)
    protocol.send_response(protocol.accept(request))
    return protocol


@pytest.fixture
def codex(place: Path) -> Iterator[CodexServer]:
    server = CodexServer(place)
    try:
        yield server
    finally:
        server.kill()


# -- with an echo ---------------------------------------------------------------------------------


def test_lines_become_messages_and_back(place: Path) -> None:
    with (
        EchoThread(place / "hub.sock") as server,
        attached(attach_command(str(place / "hub.sock"))) as process,
    ):
        pipe_of(process.stdin).write(b'{"a":1}\n\nno json\n{"b":2}\r\n')
        pipe_of(process.stdin).flush()
        assert pipe_of(process.stdout).readline() == b'{"a":1}\n'
        assert pipe_of(process.stdout).readline() == b'{"b":2}\n'
        _, errors = process.communicate(b'{"last":"without an end"}', timeout=20)
        assert (process.returncode, errors) == (0, b"codexd: 1 lines were no JSON objects\n")
        assert server.echo is not None
        hub = server.echo.hub
        eventually(lambda: hub.closed_clients == [1])
        sent = [b'{"a":1}', b'{"b":2}', b'{"last":"without an end"}']
        assert hub.messages == [(1, data) for data in sent]


def test_a_message_with_line_ends_in_it_is_one_line(place: Path) -> None:
    with (
        EchoThread(place / "hub.sock") as server,
        attached(attach_command(str(place / "hub.sock"))) as process,
    ):
        eventually(lambda: server.echo is not None and server.echo.hub.opened_clients)
        server.call("send", 1, b'{\n "a": [\n1]\n}')
        assert json.loads(pipe_of(process.stdout).readline()) == {"a": [1]}


def test_lines_of_fifty_megabytes_pass_though_their_sender_reads_late(place: Path) -> None:
    lines = [b'{"%d":"' % n + b"y" * (50 << 20) + b'"}\n' for n in range(2)]
    with (
        EchoThread(place / "hub.sock"),
        attached(attach_command(str(place / "hub.sock"))) as process,
    ):
        stdin, stdout = pipe_of(process.stdin), pipe_of(process.stdout)
        stdin.write(lines[0])
        stdin.flush()
        # The first one is on its way back, more than the pipe holds, and stays there: whoever
        # writes all before it reads must not find both of its pipes full.
        eventually(lambda: select.select([stdout], [], [], 0)[0])
        stdin.write(lines[1])
        stdin.flush()
        for line in lines:
            assert stdout.readline() == line


def test_a_client_that_does_not_read_fills_no_memory(place: Path) -> None:
    data = b'{"x":"' + b"y" * 1_000_000 + b'"}'
    limits = ServerLimits(backlog_bytes=8 << 20)
    with (
        EchoThread(place / "hub.sock", limits) as server,
        attached(attach_command(str(place / "hub.sock"))),
    ):
        assert server.echo is not None
        hub = server.echo.hub
        eventually(lambda: hub.opened_clients)
        sent = 0
        # What attach does not take, the server has to keep, and then it ends the matter.
        while not hub.cut:
            server.call("send", 1, data)
            sent += len(data)
            assert sent < 60 << 20
            # Slow enough for an attach that takes everything to keep up.
            time.sleep(0.02)


def test_a_server_that_does_not_read_fills_no_memory(place: Path) -> None:
    lines = b'{"x":"' + b"y" * 65_000 + b'"}\n'
    with (
        socket.socket(socket.AF_UNIX) as listening,
        attached(attach_command(str(place / "hub.sock"), "daemon")) as process,
    ):
        listening.bind(str(place / "hub.sock"))
        listening.listen()
        listening.settimeout(20)
        connected, _ = listening.accept()
        with connected:
            connected.sendall(b"".join(accepting(connected).data_to_send()))
            stdin = pipe_of(process.stdin).fileno()
            os.set_blocking(stdin, False)
            written = 0
            # Until its stdin stays full: nothing is read from it any more.
            while select.select([], [stdin], [], 1.0)[1]:
                written += os.write(stdin, lines[written % len(lines) :])
                assert written < 40 << 20
            assert written > 1 << 20


def test_when_the_daemon_goes_it_ends_with_one_line(place: Path) -> None:
    with attached(attach_command(str(place / "hub.sock"))) as process:
        with EchoThread(place / "hub.sock") as server:
            eventually(lambda: server.echo is not None and server.echo.hub.opened_clients)
            server.call("send", 1, b'{"last":1}')
        code, output, errors = end_of(process)
        assert (code, output) == (1, b'{"last":1}\n')
        said = b"codexd: The daemon closed the connection: codexd is ending. No daemon serves "
        assert errors.startswith(said)
        assert errors.count(b"\n") == 1


def test_what_comes_in_one_piece_with_the_answer_is_not_lost(place: Path) -> None:
    with (
        socket.socket(socket.AF_UNIX) as listening,
        attached(attach_command(str(place / "hub.sock"), "no-daemon")) as process,
    ):
        listening.bind(str(place / "hub.sock"))
        listening.listen()
        listening.settimeout(20)
        connected, _ = listening.accept()
        with connected:
            protocol = accepting(connected)
            protocol.send_text(b'{"last":1}')
            protocol.send_close(1001, "so long")
            connected.sendall(b"".join(protocol.data_to_send()))
            listening.close()
            code, output, errors = end_of(process)
    assert code == 1
    assert output == b'{"last":1}\n'
    assert errors.startswith(b"codexd: The daemon closed the connection: so long. No daemon ")


def test_with_both_sides_gone_it_does_not_wait_for_a_reader_for_ever(place: Path) -> None:
    with attached(attach_command(str(place / "hub.sock"), "daemon")) as process:
        with EchoThread(place / "hub.sock") as server:
            assert server.echo is not None
            hub = server.echo.hub
            eventually(lambda: hub.opened_clients)
            # More than the pipe holds, and nobody reads it.
            server.call("send", 1, b'{"x":"' + b"y" * 1_000_000 + b'"}')
            eventually(lambda: select.select([pipe_of(process.stdout)], [], [], 0)[0])
        pipe_of(process.stdin).close()
        assert process.wait(20) == 1
        process.stdin = None


def test_a_daemon_whose_socket_is_not_there_yet_is_waited_for(place: Path) -> None:
    with attached(attach_command(str(place / "hub.sock"), "daemon")) as process:
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(0.3)
        with EchoThread(place / "hub.sock") as server:
            eventually(lambda: server.echo is not None and server.echo.hub.opened_clients)
            _, errors = process.communicate(timeout=20)
            assert (process.returncode, errors) == (0, b"")


BUSY = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


@pytest.mark.parametrize("answer", [b"", BUSY], ids=["none", "503"])
def test_a_plugin_that_lets_nobody_in_for_now_is_passing_trouble(
    place: Path, answer: bytes
) -> None:
    path = place / "hub.sock"
    with attached(attach_command(str(path), "daemon")) as process:
        with socket.socket(socket.AF_UNIX) as listening:
            listening.bind(str(path))
            listening.listen()
            listening.settimeout(20)
            connected, _ = listening.accept()
            with connected:
                connected.recv(65536)
                connected.sendall(answer)
        with EchoThread(path) as server:
            eventually(lambda: server.echo is not None and server.echo.hub.opened_clients)
            _, errors = process.communicate(timeout=20)
            assert (process.returncode, errors) == (0, b"")


def test_a_daemon_that_refuses_it_ends_it_with_one_line(place: Path) -> None:
    with (
        socket.socket(socket.AF_UNIX) as listening,
        attached(attach_command(str(place / "hub.sock"), "daemon")) as process,
    ):
        listening.bind(str(place / "hub.sock"))
        listening.listen()
        listening.settimeout(20)
        connected, _ = listening.accept()
        with connected:
            connected.recv(65536)
            connected.sendall(BUSY.replace(b"503 Service Unavailable", b"403 Forbidden"))
            code, _, errors = end_of(process)
    assert (code, errors) == (1, b"codexd: The daemon refused the connection: HTTP 403.\n")


def test_without_a_daemon_it_says_so_at_once(place: Path) -> None:
    result = subprocess.run(
        attach_command(str(place / "none.sock")), capture_output=True, timeout=20, text=True
    )
    assert result.returncode == 1
    assert result.stderr.startswith("codexd: No daemon serves ")
    assert result.stderr.count("\n") == 1


def test_it_ends_when_nobody_reads_its_output(place: Path) -> None:
    with (
        EchoThread(place / "hub.sock") as server,
        attached(attach_command(str(place / "hub.sock"))) as process,
    ):
        eventually(lambda: server.echo is not None and server.echo.hub.opened_clients)
        pipe_of(process.stdout).close()
        server.call("send", 1, b"{}")
        assert process.wait(20) == 0
        process.stdout = None


# -- with the real codex --------------------------------------------------------------------------


@pytest.mark.real
def test_answers_to_what_was_asked_before_the_end_still_come(codex: CodexServer) -> None:
    codex.start_ready()
    requests = [INITIALIZE, {"method": "initialized"}]
    requests += [{"id": f"r{n}", "method": "model/list", "params": {}} for n in range(20)]
    lines = b"".join(json.dumps(request).encode() + b"\n" for request in requests)
    result = subprocess.run(
        attach_command(codex.socket_path), input=lines, capture_output=True, timeout=30
    )
    assert (result.returncode, result.stderr) == (0, b"")
    answers = [json.loads(line) for line in result.stdout.splitlines()]
    assert {answer["id"] for answer in answers if "result" in answer} == {
        1,
        *(f"r{n}" for n in range(20)),
    }


@pytest.mark.real
def test_a_killed_server_ends_it_with_one_line(codex: CodexServer) -> None:
    codex.start_ready()
    with attached(attach_command(codex.socket_path)) as process:
        pipe_of(process.stdin).write(json.dumps(INITIALIZE).encode() + b"\n")
        pipe_of(process.stdin).flush()
        assert b'"userAgent":"pipe/' in pipe_of(process.stdout).readline()
        codex.kill()
        code, _, errors = end_of(process)
        assert code == 1
        assert errors.startswith(b"codexd: The daemon closed the connection. No daemon serves ")
        assert errors.count(b"\n") == 1


@pytest.mark.real
def test_the_vendors_sdk_runs_turns_through_it(codex: CodexServer) -> None:
    from openai_codex import Codex, CodexConfig

    model = ModelServer(lambda: Reply(deltas=["All ", "is ", "well"]))
    try:
        model.write_config(codex.home)
        codex.start_ready()
        config = CodexConfig(launch_args_override=tuple(attach_command(codex.socket_path)))
        with Codex(config) as client:
            thread = client.thread_start()
            assert thread.run("How is it?").final_response == "All is well"
            assert thread.run("And now?").final_response == "All is well"
    finally:
        model.close()


# -- the commands ---------------------------------------------------------------------------------


def codexd(place: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    clean = {k: v for k, v in os.environ.items() if not k.startswith(SETTINGS_PREFIXES)}
    return subprocess.run(
        [*CODEXD, *arguments],
        env={**clean, "BAA_CODEXD_STATE_DIR": str(place)},
        cwd=place,
        input="",
        capture_output=True,
        text=True,
        timeout=30,
    )


@pytest.fixture
def hub(place: Path) -> Iterator[Path]:
    """An echo server where the daemon of ``place`` would have its hub."""
    run = place / "codexd" / "run"
    with EchoThread(run / "codexd.sock"):
        yield place


SHAPES = [
    ("attach",),
    ("app-server",),
    ("app-server", "--listen", "stdio://"),
    ("app-server", "--listen=stdio://"),
    ("app-server", "--stdio"),
]


@pytest.mark.parametrize("shape", SHAPES, ids=" ".join)
def test_it_is_started_as_tools_start_an_app_server(hub: Path, shape: tuple[str, ...]) -> None:
    result = codexd(hub, *shape)
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")


GIVEN = [
    ("app-server", "--analytics-default-enabled"),
    ("app-server", "-c", "model=x", "--enable", "multi_agent", "--listen", "stdio://"),
    ("app-server", "--config", 'sandbox_mode="read-only"', "--disable=multi_agent"),
    ("--config", "model=x", "app-server", "--listen", "stdio://"),
    ("-c", "model=x", "app-server"),
    ("-m", "x", "-s", "read-only", "-a", "never", "-C", "/", "app-server"),
]


@pytest.mark.parametrize("shape", GIVEN, ids=" ".join)
def test_options_of_codex_are_taken_without_a_word(hub: Path, shape: tuple[str, ...]) -> None:
    result = codexd(hub, *shape)
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")


@pytest.mark.real
@pytest.mark.parametrize("option", ["--enable", "--disable"])
def test_a_feature_that_codex_does_not_know_is_refused(hub: Path, option: str) -> None:
    result = codexd(hub, "app-server", "--enable", "multi_agent", option, "no_such")
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr.startswith('codexd: Unknown feature "no_such" ')


@pytest.mark.parametrize(
    "arguments",
    [
        ("--listen", "unix:///" + "x" * 200),
        ("--listen", "ws://localhost:1"),
        ("--listen", "ws://127.0.0.1:70000"),
        ("--listen", "off"),
        ("--strict-config",),
        ("--code-mode-host", "http://x"),
        ("--unknown-to-us",),
        ("-c", "otel.exporter=x"),
        ("-c", "no-equals-sign"),
        ("-s",),
        ("daemon", "bogus"),
        ("proxy", "--bogus"),
    ],
    ids=" ".join,
)
def test_what_it_cannot_do_it_refuses_in_one_line(place: Path, arguments: tuple[str, ...]) -> None:
    result = codexd(place, "app-server", *arguments)
    assert result.returncode == 2
    assert arguments[-1] in result.stderr or arguments[0] in result.stderr
    assert result.stderr.count("\n") == 1


def test_attach_loads_nothing_that_it_does_not_need(hub: Path) -> None:
    code = "import sys; from codexd.cli.main import main\ntry: main(['attach'])\nfinally: "
    code += (
        "print(sorted({'asyncio','zmq','tornado','circus','jinja2','psutil'} & set(sys.modules)))"
    )
    result = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "BAA_CODEXD_STATE_DIR": str(hub)},
        cwd=hub,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert (result.stdout, result.stderr) == ("[]\n", "")


def test_an_interrupt_ends_it_quietly(place: Path) -> None:
    command = [*CODEXD, "attach", "--state-dir", str(place)]
    with (
        EchoThread(place / "codexd" / "run" / "codexd.sock") as server,
        attached(command) as process,
    ):
        eventually(lambda: server.echo is not None and server.echo.hub.opened_clients)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=20)
        # click ends the terminal's ^C line.
        assert (process.returncode, errors) == (130, b"\n")
