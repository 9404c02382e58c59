"""A daemon that was killed ends on record before the next one starts, once."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from codexd import runtime
from codexd.config import Config, resolve
from codexd.records.records import open_as_daemon


@pytest.fixture
def config(tmp_path: Path) -> Config:
    config = resolve({"repo_root": str(tmp_path)}, {}, cwd=str(tmp_path))
    runtime.make_directories(config.paths, config.runtime)
    return config


def start(config: Config, pid: int) -> None:
    with open_as_daemon(config) as memory:
        memory.daemon_begins(pid)


def stop(config: Config) -> None:
    with open_as_daemon(config) as memory:
        memory.recorder.daemon_stopped()


def daemons(config: Config) -> list[str]:
    lines = Path(config.paths.structured_event_log_path).read_text("utf-8").splitlines()
    types = [json.loads(line)["type"] for line in lines]
    return [type_.removeprefix("daemon.") for type_ in types if type_.startswith("daemon.")]


def test_the_end_of_a_killed_daemon_is_recorded_by_the_next(config: Config) -> None:
    start(config, 1)
    start(config, 2)
    stop(config)
    start(config, 3)
    assert daemons(config) == ["started", "stopped", "started", "stopped", "started"]


def test_the_log_decides_where_the_state_was_not_written_any_more(config: Config) -> None:
    start(config, 1)
    state = Path(config.paths.daemon_state_path)
    running = state.read_bytes()
    stop(config)
    # As if it had been killed between the event and the state.
    state.write_bytes(running)
    start(config, 2)
    assert daemons(config) == ["started", "stopped", "started"]
    # And the other way round: killed before the state said that it had started.
    state.unlink()
    start(config, 3)
    assert daemons(config) == ["started", "stopped", "started", "stopped", "started"]
