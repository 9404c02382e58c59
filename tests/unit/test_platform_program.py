"""Programs that are asked for a word: what of them is heard, and that nothing of them is left."""

from __future__ import annotations

import os
from pathlib import Path

import psutil
import pytest

from codexd.platform.program import NoAnswer, ask
from tests.support.waiting import eventually


@pytest.mark.parametrize(("hears_errors", "heard"), [(False, b"out\n"), (True, b"err\n")])
def test_one_of_its_outputs_is_heard(hears_errors: bool, heard: bytes) -> None:
    command = ["/bin/sh", "-c", "echo out; echo err >&2; exit 3"]
    assert ask(command, os.environ, 10, hears_errors=hears_errors) == (3, heard)


def test_what_it_has_started_ends_with_it(tmp_path: Path) -> None:
    note = tmp_path / "pid"
    command = ["/bin/sh", "-c", f"sleep 60 & echo $! >{note}.new; mv {note}.new {note}; wait"]
    patience_s = 0.2
    while not note.exists():
        # On a busy machine it has not even begun by then.
        with pytest.raises(NoAnswer):
            ask(command, os.environ, patience_s)
        patience_s *= 2
    eventually(lambda: not _is_alive(int(note.read_text())), what="its end")


def _is_alive(pid: int) -> bool:
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False
