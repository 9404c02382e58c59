"""What `codexd top` takes of a core: `python -m tests.benchmarks.bench_top`.

On a screen of 120 by 40, for half a minute each: on a daemon where nothing happens, on one with a
turn that streams and some events every second, and while no daemon runs.
"""

from __future__ import annotations

import fcntl
import os
import pty
import struct
import sys
import tempfile
import termios
import threading
import time
from pathlib import Path

import psutil

from tests.support.daemon import CODEXD
from tests.support.hub_room import HubRoom
from tests.support.schema import Schemas

_FOR_S = 30.0
_SETTLE_S = 3.0


def main() -> None:
    """Measure, and print percents of a core."""
    with tempfile.TemporaryDirectory() as schemas:
        room = HubRoom(Schemas(Path(schemas)))
        try:
            _measure_all(room)
        finally:
            room.close()


def _measure_all(room: HubRoom) -> None:
    pid, keyboard = _start(room)
    try:
        print(f"idle {_share(pid):.2f} %", flush=True)
        ends = threading.Event()
        busy = threading.Thread(target=_keep_busy, args=[room, ends])
        busy.start()
        print(f"busy {_share(pid):.2f} %", flush=True)
        ends.set()
        busy.join()
        room.box.stop()
        print(f"away {_share(pid):.2f} %", flush=True)
    finally:
        os.write(keyboard, b"q")
        os.waitpid(pid, 0)


def _start(room: HubRoom) -> tuple[int, int]:
    pid, terminal = pty.fork()
    if pid == 0:
        env = {**room.box.env, "TERM": "xterm-256color"}
        os.chdir(room.root)
        os.execve(sys.executable, [*CODEXD, "top", *room.box.flags], env)
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("4H", 40, 120, 0, 0))
    threading.Thread(target=_read, args=[terminal], daemon=True).start()
    return pid, terminal


def _read(terminal: int) -> None:
    try:
        while os.read(terminal, 1 << 16):
            pass
    except OSError:
        return


def _share(pid: int) -> float:
    time.sleep(_SETTLE_S)
    process = psutil.Process(pid)
    before, begun = process.cpu_times(), time.monotonic()
    time.sleep(_FOR_S)
    after = process.cpu_times()
    used: float = after.user + after.system - before.user - before.system
    return used / (time.monotonic() - begun) * 100


def _keep_busy(room: HubRoom, ends: threading.Event) -> None:
    client = room.client("busy")
    thread_id = client.start_thread()
    while not ends.wait(0.2):
        client.start_turn(thread_id)
        client.notification("turn/completed", threadId=thread_id)


if __name__ == "__main__":
    main()
