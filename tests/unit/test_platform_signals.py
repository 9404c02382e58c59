"""What whoever started this process had set, and what codexd must hear all the same."""

from __future__ import annotations

import subprocess
import sys

# A process that was started by one that ignores the death of its children, and blocks the word.
HEARS = """
import asyncio, os, signal, sys
from codexd.platform import signals

async def exit_code():
    process = await asyncio.create_subprocess_exec(sys.executable, "-ISc", "raise SystemExit(3)")
    return await process.wait()

signals.settle()
told = signal.getsignal(signal.SIGINT) is signal.SIG_IGN, asyncio.run(exit_code())
signal.signal(signal.SIGCHLD, heard := lambda *_: None)
signals.settle()
print(*told, signal.getsignal(signal.SIGCHLD) is heard)
"""
STARTER = """
import os, signal, sys
for name in ("INT", "CHLD"):
    signal.signal(getattr(signal, f"SIG{name}"), signal.SIG_IGN)
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD})
os.execv(sys.executable, [sys.executable, "-c", sys.argv[1]])
"""


def test_how_a_child_ended_is_heard_whatever_the_starter_ignores() -> None:
    command = [sys.executable, "-ISc", STARTER, HEARS]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert (done.stdout.split(), done.stderr) == (["True", "3", "True"], "")
