"""A child that speaks what codexd needs of the protocol, over stdio, and misbehaves on demand.

Run as ``python stub_app_server.py app-server WORD…``. A word is ``NAME``, ``NAME=VALUE``, or
either with ``@FILE``: it counts only if FILE is there when the child starts; with ``@-FILE`` the
child takes the file away, so that it counts once. Files are in the working directory. Words are
the methods of :class:`Stub` without their ``do_``. Imports nothing that is slow to load.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import time
from typing import Any


class Stub:
    """What the child was told to do."""

    def __init__(self) -> None:
        self.is_mute = False
        self.busy_s = 0.0
        self.asks = 0
        self.after_handshake: list[Any] = []
        self.unread = b""

    # -- words -------------------------------------------------------------------------------

    def do_exit(self, code: str) -> None:
        """End at once."""
        sys.exit(int(code))

    def do_mute(self, _: str) -> None:
        """Never answer anything."""
        self.is_mute = True

    def do_hang(self, _: str) -> None:
        """Answer nothing after the handshake."""
        self.after_handshake.append(lambda: self.do_mute(""))

    def do_busy(self, seconds: str) -> None:
        """After the handshake, for a while, only send notifications; then read on."""
        self.busy_s = float(seconds)
        self.after_handshake.append(self._be_busy)

    def do_close_stdout(self, _: str) -> None:
        """Close stdout after the handshake."""
        self.after_handshake.append(lambda: os.close(1))

    def do_close_stdin(self, _: str) -> None:
        """Close stdin after the handshake, and stay."""
        self.after_handshake += [lambda: os.close(0), signal.pause]

    def do_ignore_term(self, _: str) -> None:
        """Only SIGKILL ends it."""
        signal.signal(signal.SIGTERM, signal.SIG_IGN)

    def do_term_code(self, code: str) -> None:
        """End on SIGTERM with a code of its own."""
        signal.signal(signal.SIGTERM, lambda *_: os._exit(int(code)))

    def do_slow_term(self, seconds: str) -> None:
        """Take a while to end on SIGTERM, and say a last word."""

        def end(*_: object) -> None:
            self.say("turn/last")
            time.sleep(float(seconds))
            os.write(2, b"ended in order\n")
            os._exit(0)

        signal.signal(signal.SIGTERM, end)

    def do_grandchild(self, _: str) -> None:
        """Leave a process in its group that lives on; its pid goes to stderr."""
        pid = os.fork()
        if pid == 0:
            # As whatever a shell started: no thought of its parent, and new signal handlers.
            os.execv(sys.executable, [sys.executable, "-ISc", "import signal; signal.pause()"])
        os.write(2, f"grandchild {pid}\n".encode())

    def do_eat(self, mebibytes: str) -> None:
        """Have so much memory."""
        self.eaten = b"x" * (int(mebibytes) << 20)

    def do_helper(self, _: str) -> None:
        """As codex does with an MCP server: one in a group of its own, which is hard to end."""
        pid = os.fork()
        if pid == 0:
            code = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); signal.pause()"
            os.setpgid(0, 0)
            os.execve(sys.executable, [sys.executable, "-ISc", code], {})
        os.write(2, f"helper {pid}\n".encode())

    def do_outlive(self, _: str) -> None:
        """Live on when the daemon dies, as on a system without a parent-death signal."""
        import ctypes

        ctypes.CDLL(None).prctl(1, 0)

    def do_exhaust(self, _: str) -> None:
        """Have no file descriptor left."""
        with contextlib.suppress(OSError):
            while True:
                os.open(os.devnull, os.O_RDONLY)
        os.write(2, b"no descriptor left\n")

    def do_flood(self, lines: str) -> None:
        """Print numbered lines on stderr after the handshake."""

        def print_them() -> None:
            with os.fdopen(os.dup(2), "w") as out:
                out.writelines(f"line {number}\n" for number in range(int(lines)))

        self.after_handshake.append(print_them)

    def do_ask(self, count: str) -> None:
        """Ask for so many approvals, once it is asked for anything."""
        self.asks = int(count)

    # -- speaking ----------------------------------------------------------------------------

    def say(self, method: str) -> None:
        """Send a notification."""
        self._send({"method": method, "params": {}})

    def _send(self, message: dict[str, Any]) -> None:
        os.write(1, json.dumps(message).encode() + b"\n")

    def _be_busy(self) -> None:
        until = time.monotonic() + self.busy_s
        while time.monotonic() < until:
            self.say("item/delta")
            time.sleep(0.02)
        os.write(2, b"busy no more\n")

    def serve(self) -> None:
        """Answer every request until end of input."""
        while data := os.read(0, 65536):
            *lines, self.unread = (self.unread + data).split(b"\n")
            for line in filter(None, lines):
                self._take(json.loads(line))

    def _take(self, message: dict[str, Any]) -> None:
        if message.get("method") == "initialized":
            while self.after_handshake:
                self.after_handshake.pop(0)()
        elif "id" in message and "method" in message and not self.is_mute:
            self._send({"id": message["id"], "result": {}})
            if message["method"] == "model/list":
                self._ask()

    def _ask(self) -> None:
        method, params = "item/fileChange/requestApproval", {"threadId": "t", "turnId": "u"}
        lines = (
            json.dumps({"id": number, "method": method, "params": params}) + "\n"
            for number in range(self.asks)
        )
        with os.fdopen(os.dup(1), "w") as out:
            out.writelines(lines)


def main(words: list[str]) -> None:
    """Be the child."""
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    stub = Stub()
    for word in words:
        action, _, file = word.partition("@")
        if file and not os.path.exists(file.removeprefix("-")):
            continue
        if file.startswith("-"):
            os.unlink(file.removeprefix("-"))
        name, _, value = action.partition("=")
        getattr(stub, f"do_{name}")(value)
    stub.serve()


if __name__ == "__main__":
    main(sys.argv[2:])
