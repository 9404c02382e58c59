"""A process that ends with its parent, without a moment in which the parent's death is missed."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.support.faults import wait_gone

pytestmark = pytest.mark.skipif(
    sys.platform != "linux", reason="the parent-death signal is Linux's"
)

# A parent that forks a child, tells its pid, and ends when told; the child asks to end with it,
# before or after that.
PARENT = """
import os, signal, sys
from codexd.platform.parent import end_with_parent
parent = os.getpid()
gone_read, gone_write = os.pipe()
ready_read, ready_write = os.pipe()
child = os.fork()
if child == 0:
    os.close(gone_write)
    if "late" in sys.argv:
        os.write(ready_write, b"x")
        os.read(gone_read, 1)
    end_with_parent(parent, signal.SIGKILL)
    os.write(ready_write, b"x")
    signal.pause()
print(child, flush=True)
os.read(ready_read, 1)
sys.stdin.read(1)
"""


@pytest.mark.parametrize("moment", ["early", "late"])
def test_it_ends_whether_the_parent_dies_later_or_has_died_before(moment: str) -> None:
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT, moment], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert parent.stdout is not None
    child = int(parent.stdout.readline())
    parent.stdout.close()
    parent.communicate()
    wait_gone(child)
