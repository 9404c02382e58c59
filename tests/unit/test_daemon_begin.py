"""What keeps a daemon from beginning, and whether trying again may help."""

from __future__ import annotations

import builtins
import errno
import os
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import pytest

from codexd import runtime
from codexd.circus_ext import hooks
from codexd.supervisor import daemon as daemon_module
from codexd.supervisor.daemon import Daemon
from codexd.supervisor.errors import CannotStart
from tests.support.memory import config_at


@pytest.mark.parametrize(
    ("flags", "is_out_of_files", "is_configuration"),
    [
        ({"server_cwd": "/nowhere"}, False, True),
        # It may be installed meanwhile.
        ({"server_command": "/nowhere/codex"}, False, False),
        ({"server_command": "/bin/sh"}, True, False),
    ],
)
def test_only_what_the_user_set_is_given_up_for_good(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    flags: dict[str, str],
    is_out_of_files: bool,
    is_configuration: bool,
) -> None:
    def refuse(*_: Any, **__: Any) -> Any:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    daemon = Daemon(config_at(tmp_path, **flags), None)
    records = MagicMock()
    with monkeypatch.context() as patch:
        if is_out_of_files:
            patch.setattr(builtins, "open", refuse)
        with pytest.raises(CannotStart) as caught:
            daemon._begin(records)
    assert caught.value.is_configuration == is_configuration
    records.recorder.cannot_spawn.assert_called_once_with(str(caught.value))


def test_a_daemon_whose_end_cannot_be_written_has_ended_in_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    left: list[object] = []

    def refuse(*_: Any, **__: Any) -> Any:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/state/events.jsonl")

    monkeypatch.setattr(daemon_module, "record_end", refuse)
    monkeypatch.setattr(runtime, "leave", lambda *places: left.append(places))
    monkeypatch.setattr(hooks, "ignore_signals", lambda: None)
    Daemon(config_at(tmp_path), None).finish()
    assert len(left) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("codexd: the end cannot be recorded: ")
    assert "/state/events.jsonl" in line
