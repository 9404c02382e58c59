"""What a daemon that cannot begin tells whoever started it."""

from __future__ import annotations

import os

import pytest

from codexd.cli import starter
from codexd.cli.starter import Starter, Word


def told_by(word: Word, monkeypatch: pytest.MonkeyPatch) -> Starter:
    """As in the daemon: the descriptor is its own."""
    monkeypatch.setenv(starter._VARIABLE, str(os.dup(word.writer)))
    return Starter()


def test_the_reason_comes_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    with Word() as word:
        told_by(word, monkeypatch).tell("no, and\nfor two reasons: ü")
        assert word.read() == "no, and\nfor two reasons: ü"
        assert starter._VARIABLE not in os.environ


def test_one_that_says_nothing_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    with Word() as word:
        daemon = told_by(word, monkeypatch)
        assert word.read() == ""
        daemon.leave()
        daemon.tell("too late")
        assert word.read() == ""


@pytest.mark.parametrize("text", ["", "x", "²", "99999999", "-1"])
def test_a_daemon_that_nobody_waits_for_tells_nobody(
    text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(starter._VARIABLE, text)
    Starter().tell("no")
    assert starter._VARIABLE not in os.environ
