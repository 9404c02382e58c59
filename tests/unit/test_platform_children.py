"""Who was started by a process."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator

import psutil
import pytest

from codexd.platform import children
from codexd.platform.children import children_of, descendants_of
from tests.support.waiting import eventually

# A thread that is not the first one starts a process, which starts another.
_TREE = """
import subprocess, sys, threading
below = [sys.executable, "-c", "import subprocess; subprocess.run(['sleep', '60'])"]
threading.Thread(target=subprocess.run, args=[below]).start()
"""


@pytest.fixture
def tree() -> Iterator[psutil.Process]:
    with subprocess.Popen([sys.executable, "-c", _TREE]) as started:
        process = psutil.Process(started.pid)
        eventually(lambda: len(process.children(recursive=True)) == 2)
        yield process
        for each in [*process.children(recursive=True), process]:
            each.kill()


def test_children_of_every_thread_are_found_and_theirs(tree: psutil.Process) -> None:
    expected = [child.pid for child in tree.children(recursive=True)]
    assert descendants_of(tree.pid) == expected
    assert children_of(tree.pid) == expected[:1]


def test_a_kernel_that_does_not_tell_is_asked_otherwise(
    tree: psutil.Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(pid: int) -> list[str]:
        raise FileNotFoundError(pid)

    monkeypatch.setattr(children, "_tasks", refuse)
    assert descendants_of(tree.pid) == [child.pid for child in tree.children(recursive=True)]


def test_nobody_has_no_children() -> None:
    assert children_of(2**22 + 1) == []
    assert os.getpid() not in children_of(os.getpid())
