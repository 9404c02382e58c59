"""What is computed beside: the same as here, whatever becomes of the process that does it."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

# Each prints what it got, and whether it was made by another process.
DRIVER = """
import os, signal, sys, time
from codexd.platform import aside
own = os.getpid()
def make():
    if os.getpid() != own:
        {there}
    return b"x" * 200_000 + (b" here" if os.getpid() == own else b" there")
{before}
made = aside.Aside(make)
found = made.result()
print(len(found), found[200_000:].decode(), len(os.listdir("/proc/self/fd")))
try:
    os.waitpid(-1, os.WNOHANG)
except ChildProcessError:
    print("nobody is left")
"""
IGNORED = "signal.signal(signal.SIGCHLD, signal.SIG_IGN)"
NO_FORK = "aside.os.fork = lambda: (_ for _ in ()).throw(BlockingIOError(11, 'no'))"


@pytest.mark.skipif(sys.platform != "linux", reason="nothing is forked elsewhere")
@pytest.mark.parametrize(
    ("there", "before", "where"),
    [
        ("pass", "", "there"),
        ("pass", IGNORED, "there"),
        ("raise ValueError", "", "here"),
        ("os.kill(os.getpid(), signal.SIGKILL)", "", "here"),
        ("time.sleep(60)", "aside._PATIENCE_S = 0.05", "here"),
        ("pass", NO_FORK, "here"),
    ],
)
def test_the_result_is_the_same_wherever_it_is_made(there: str, before: str, where: str) -> None:
    code = DRIVER.format(there=there, before=before)
    env = {**os.environ, "PYTHONPATH": os.getcwd()}
    run = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=env, timeout=30
    )
    size = 200_000 + len(where) + 1
    assert run.stdout == f"{size}  {where} 4\nnobody is left\n", run.stderr


@pytest.mark.skipif(sys.platform != "linux", reason="nothing is forked elsewhere")
def test_one_that_nobody_asks_is_ended() -> None:
    code = """
import os, time
from codexd.platform import aside
made = aside.Aside(lambda: time.sleep(60) or b"")
made.give_up()
made.give_up()
try:
    os.waitpid(-1, os.WNOHANG)
except ChildProcessError:
    print("nobody is left", len(os.listdir("/proc/self/fd")))
"""
    env = {**os.environ, "PYTHONPATH": os.getcwd()}
    run = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=env, timeout=30
    )
    assert run.stdout == "nobody is left 4\n", run.stderr


def test_what_cannot_be_made_is_told_of_here() -> None:
    from codexd.platform.aside import Aside

    def make() -> bytes:
        raise ValueError("no such thing")

    with pytest.raises(ValueError, match="no such thing"):
        Aside(make).result()
