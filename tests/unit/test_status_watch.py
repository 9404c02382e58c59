"""`codexd status --watch`, where something else than Ctrl-C ends it."""

from __future__ import annotations

import os
import select
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from codexd.cli import status_watch
from codexd.cli.main import main
from codexd.config import resolve


def arrive(monkeypatch: pytest.MonkeyPatch, *signals: signal.Signals) -> None:
    """On an xterm, have a signal come in each pause."""
    coming: Iterator[signal.Signals] = iter(signals)

    def select_one(*_: object) -> tuple[list[int], list[int], list[int]]:
        os.kill(os.getpid(), next(coming))
        return [], [], []

    monkeypatch.setattr(status_watch, "is_terminal", lambda: True)
    monkeypatch.setattr(select, "select", select_one)
    monkeypatch.setenv("TERM", "xterm")


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_leaves_the_terminal_as_it_was(
    signum: signal.Signals,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    before = signal.getsignal(signum)
    arrive(monkeypatch, signum)
    with pytest.raises(SystemExit) as ended:
        status_watch.watch_status(resolve({"repo_root": str(tmp_path)}, {}, cwd="/"))
    assert ended.value.code == 128 + signum
    assert signal.getsignal(signum) is before
    entered, _, left = capsys.readouterr().out.partition("\x1b[?1049l")
    assert entered.startswith("\x1b[?1049h")
    assert "not running" in " ".join(left.split())


def test_while_it_is_stopped_the_terminal_is_the_shells(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    arrive(monkeypatch, signal.SIGTSTP, signal.SIGTERM)
    monkeypatch.setattr(status_watch, "obey", lambda number: os.write(1, number.name.encode()))
    with pytest.raises(SystemExit):
        status_watch.watch_status(resolve({"repo_root": str(tmp_path)}, {}, cwd="/"))
    before, _, after = capfd.readouterr().out.partition("SIGTSTP")
    assert before.endswith("\x1b[?1049l")
    assert after.startswith("\x1b[?1049h")
    assert "codexd of" in after


@pytest.mark.parametrize("flag", ["--json", "--check"])
def test_what_goes_on_has_no_one_answer(flag: str, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["status", "--watch", flag])
    assert ended.value.code == 2
    assert "--watch" in capfd.readouterr().err
