"""`codexd status --watch`, where something else than Ctrl-C ends it."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

from codexd.cli import status_watch
from codexd.cli.main import main
from codexd.config import resolve


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_leaves_the_terminal_as_it_was(
    signum: signal.Signals,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    before = signal.getsignal(signum)
    monkeypatch.setattr(status_watch, "is_terminal", lambda: True)
    monkeypatch.setattr(time, "sleep", lambda _: os.kill(os.getpid(), signum))
    monkeypatch.setenv("TERM", "xterm")
    with pytest.raises(SystemExit) as ended:
        status_watch.watch_status(resolve({"repo_root": str(tmp_path)}, {}, cwd="/"))
    assert ended.value.code == 128 + signum
    assert signal.getsignal(signum) is before
    entered, _, left = capsys.readouterr().out.partition("\x1b[?1049l")
    assert entered.startswith("\x1b[?1049h")
    assert "not running" in " ".join(left.split())


@pytest.mark.parametrize("flag", ["--json", "--check"])
def test_what_goes_on_has_no_one_answer(flag: str, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["status", "--watch", flag])
    assert ended.value.code == 2
    assert "--watch" in capfd.readouterr().err
