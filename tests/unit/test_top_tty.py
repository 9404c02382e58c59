"""The terminal that `codexd top` is on."""

from __future__ import annotations

import os
import pty

import pytest

from codexd.cli.top.tty import Terminal, TerminalGone


def test_a_terminal_that_was_hung_up_is_told_as_that() -> None:
    master, slave = pty.openpty()
    os.close(master)
    try:
        with pytest.raises(TerminalGone):
            Terminal(slave).enter()
    finally:
        os.close(slave)
