"""Half a minute of the kill matrix: each process and each signal, then random histories."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.faults.kill_matrix import histories, run
from tests.support.matrix_actions import single_strikes
from tests.support.matrix_world import Servers, Violated
from tests.support.waiting import eventually

SEED = "20261125"
SECONDS = 35.0


@pytest.mark.real
@pytest.mark.long
@pytest.mark.timeout(240)
def test_everything_holds_after_whatever_was_done() -> None:
    kills = play_in_short(seed=SEED, seconds=SECONDS)
    assert kills >= len(single_strikes())


def play_in_short(**options: Any) -> int:
    """Play some histories; the number of kills."""
    # A short path: sockets are below it.
    root = Path(tempfile.mkdtemp(prefix="km-", dir="/tmp"))
    told: list[str] = []
    try:
        kills = run(root, told.append, **options)
    except Violated as violated:
        pytest.fail("\n".join([*told[-8:], *violated.lines, f"see {root}"]))
    shutil.rmtree(root, ignore_errors=True)
    return kills


def test_a_history_is_that_of_its_seed() -> None:
    def some(seed: str) -> list[str]:
        drawn = histories(seed)
        return [f"{number}: {history}" for number, history in (next(drawn) for _ in range(40))]

    assert some("a") == some("a")
    assert some("a") != some("b")
    again = histories("a", only=30)
    assert [f"{n}: {history}" for n, history in (next(again), next(again))] == [some("a")[30]] * 2


@contextlib.contextmanager
def something(home: Path, *words: str) -> Iterator[int]:
    """A process that lives as long as the block and is called by these words."""
    command = ["codex", "-c", "read x", *words]
    with subprocess.Popen(
        command, executable="/bin/sh", stdin=subprocess.PIPE, env={"CODEX_HOME": str(home)}
    ) as process:
        yield process.pid
        process.kill()


def test_a_second_server_is_seen_and_nobody_else(tmp_path: Path) -> None:
    servers = Servers(str(tmp_path))
    servers.start()
    try:
        with (
            something(tmp_path, "app-server") as one,
            something(tmp_path, "exec"),
            something(tmp_path / "other", "app-server"),
        ):
            eventually(lambda: servers.look() == [one], what="one server")
            assert servers.twins == []
            with something(tmp_path, "app-server") as other:
                eventually(lambda: servers.twins, what="a twin")
                assert str(sorted([one, other])) in servers.twins[0]
        assert servers.look() == []
    finally:
        servers.end()
