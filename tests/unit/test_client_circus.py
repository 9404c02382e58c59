"""Driving a circusd: this one, one from before our commands, one that does not answer."""

from __future__ import annotations

import os
from typing import Any

import pytest

from codexd.client import circus
from codexd.client.circus import WATCHER, order_restart, order_stop, running_turns, settings_of
from codexd.client.errors import DaemonError
from codexd.config import resolve
from codexd.platform.process import ProcessId, identify
from codexd.settings_ini import encode_settings

CONFIG = resolve({"repo_root": "/repo", "server_mode": "exec"}, {}, cwd="/")
Answers = dict[str, dict[str, Any]]


class Circusd:
    """Stands for circusd: answers what it knows."""

    def __init__(self, answers: Answers) -> None:
        self.answers = answers
        self.calls: list[tuple[str, dict[str, Any], float]] = []

    def client(self, endpoint: str, timeout: float) -> Any:
        assert endpoint == CONFIG.runtime.circus_endpoint
        return _Client(self, timeout)


class _Client:
    def __init__(self, circusd: Circusd, timeout_s: float) -> None:
        self._circusd, self._timeout_s = circusd, timeout_s
        self.poller: Any = None

    def send_message(self, command: str, **properties: Any) -> dict[str, Any]:
        self._circusd.calls.append((command, properties, self._timeout_s))
        unknown = {"status": "error", "reason": f"unknown command: {command!r}"}
        return self._circusd.answers.get(command, unknown)

    def stop(self) -> None:
        pass


@pytest.fixture
def play(monkeypatch: pytest.MonkeyPatch) -> Any:
    def begin(**answers: dict[str, Any]) -> Circusd:
        circusd = Circusd({name.replace("_", "-"): answer for name, answer in answers.items()})
        monkeypatch.setattr("circus.client.CircusClient", circusd.client)
        return circusd

    return begin


def test_the_time_goes_with_the_order_and_nothing_is_set(play: Any) -> None:
    circusd = play(codexd_restart={"status": "ok"}, codexd_stop={"graceful_timeout": 3.0})
    order_restart(CONFIG.runtime, 5.0, else_s=90.0)
    assert order_stop(CONFIG.runtime, 3.0) == 3.0
    assert [(name, given.get("graceful_timeout")) for name, given, _ in circusd.calls] == [
        ("codexd-restart", 5.0),
        ("codexd-stop", 3.0),
    ]


def test_without_one_the_daemons_own_counts_also_for_how_long_is_waited(play: Any) -> None:
    answer = {"options": {"graceful_timeout": 90.0}}
    circusd = play(get=answer, codexd_restart={"status": "ok"})
    order_restart(CONFIG.runtime, None, else_s=90.0)
    name, given, timeout_s = circusd.calls[-1]
    assert name == "codexd-restart"
    assert "graceful_timeout" not in given
    assert timeout_s > 90


def test_an_older_circusd_is_stopped_by_a_signal(play: Any) -> None:
    circusd = play(set={"status": "ok"})
    assert order_stop(CONFIG.runtime, None) is None
    assert [name for name, _, _ in circusd.calls] == ["codexd-stop"]
    assert order_stop(CONFIG.runtime, 0.0) is None
    options = {given["name"]: given["options"] for name, given, _ in circusd.calls if name == "set"}
    assert options[WATCHER] == {"graceful_timeout": 0.0}


def test_an_older_circusd_restarts_as_it_can_and_tells_no_settings(play: Any) -> None:
    circusd = play(get={"options": {"graceful_timeout": 1.0}}, restart={"status": "ok"})
    order_restart(CONFIG.runtime, None, else_s=90.0)
    assert circusd.calls[-1][0] == "restart"
    assert settings_of(CONFIG) is CONFIG


@pytest.mark.parametrize(
    ("hub", "turns"),
    [
        (None, None),
        ({"runningTurns": 2}, 2),
        ({"runningTurns": 0}, 0),
        # What is not told is not none.
        ({"ready": True}, None),
        ({"runningTurns": None}, None),
    ],
)
def test_of_an_older_circusd_the_hub_tells_the_turns_or_nobody(
    play: Any, monkeypatch: pytest.MonkeyPatch, hub: dict[str, Any] | None, turns: int | None
) -> None:
    play()
    monkeypatch.setattr(circus, "ask_hub", lambda _path: hub)
    assert running_turns(CONFIG.runtime) == turns


@pytest.mark.parametrize("turns", [None, 0, 3])
def test_circusd_tells_the_turns(play: Any, turns: int | None) -> None:
    play(codexd_turns={"turns": turns})
    assert running_turns(CONFIG.runtime) == turns


def test_the_settings_are_the_daemons(play: Any) -> None:
    own = resolve({"repo_root": "/other", "stop_timeout_ms": "7"}, {}, cwd="/")
    play(codexd_settings={"settings": encode_settings(own)})
    assert settings_of(CONFIG) == own


def test_what_circus_cannot_do_is_told(play: Any) -> None:
    play(codexd_restart={"failed": "arbiter is already running x command"})
    with pytest.raises(DaemonError, match="already running"):
        order_restart(CONFIG.runtime, 1.0, else_s=90.0)
    play(codexd_stop={"status": "error", "reason": "no"})
    with pytest.raises(DaemonError, match="refused codexd-stop: no"):
        order_stop(CONFIG.runtime, 1.0)


class _Poller:
    """Stands for ZeroMQ's: what is there to read, poll after poll."""

    def __init__(self, *events: list[str]) -> None:
        self._events = list(events)
        self.waited_ms: list[float] = []

    def poll(self, timeout_ms: float) -> list[str]:
        self.waited_ms.append(timeout_ms)
        return self._events.pop(0) if self._events else []


def test_an_answer_is_waited_for_only_while_the_daemon_lives() -> None:
    dead = ProcessId(os.getpid(), "an earlier process")
    poller = _Poller()
    with pytest.raises(DaemonError, match="ended before it answered"):
        circus._Patience(poller, dead).poll(60_000)
    assert poller.waited_ms == [0]
    # What it said before it ended counts.
    assert circus._Patience(_Poller(["answer"]), dead).poll(60_000) == ["answer"]


def test_a_daemon_that_lives_or_is_not_known_gets_its_time() -> None:
    for daemon in (identify(os.getpid()), None):
        assert circus._Patience(_Poller([], [], ["answer"]), daemon).poll(60_000) == ["answer"]
        assert circus._Patience(_Poller(), daemon).poll(0) == []
