"""What the benchmarks make of their values; that they measure is for `ops/bench --quick`."""

from __future__ import annotations

import importlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests import benchmarks
from tests.benchmarks import table
from tests.benchmarks.command import choose
from tests.benchmarks.peers import Peers
from tests.benchmarks.raw_client import Listener, first_frame, masked
from tests.benchmarks.row import OURS, Bench, Mark, Measured, Row, Spread
from tests.benchmarks.rows import BENCHES
from tests.benchmarks.scene import Scene, rotated

ROWS = [row for bench in BENCHES for row in bench.rows]


def measured(*marks: Mark, **samples: list[float]) -> Measured:
    row = Row("a.row", "what it is", "ms", ("boot", "peer"), marks)
    return Measured(row, {OURS if name == "ours" else name: got for name, got in samples.items()})


@pytest.mark.parametrize(
    ("mark", "ours", "value", "is_met"),
    [
        (Mark(1.5, "boot"), [14.0, 15.0, 90.0], 1.5, True),
        (Mark(1.4, "boot"), [14.0, 15.0, 90.0], 1.5, False),
        (Mark(1.1, "boot", each=True), [10.0, 10.0, 10.5], 1.05, True),
        (Mark(1.1, "boot", each=True), [10.0, 10.0, 12.0], 1.2, False),
        (Mark(2, "boot", is_least=True), [19.0, 20.0, 90.0], 2.0, True),
        (Mark(2, "boot", is_least=True), [10.0, 19.0, 90.0], 1.9, False),
        (Mark(2, "boot", is_least=True, each=True), [19.0, 20.0, 90.0], 1.9, False),
        (Mark(52), [50.0, 51.0, 53.0], 51.0, True),
        (Mark(52), [51.0, 53.0, 53.0], 53.0, False),
        (Mark(1.1, "peer"), [10.0], None, None),
    ],
)
def test_a_mark_is_held_against_the_values(
    mark: Mark, ours: list[float], value: float | None, is_met: bool | None
) -> None:
    one = measured(mark, ours=ours, boot=[8.0, 10.0, 11.0])
    (verdict,) = one.verdicts()
    assert verdict.value == (None if value is None else pytest.approx(value))
    assert verdict.is_met is is_met


def test_where_each_value_counts_the_other_side_shows_what_the_machine_does() -> None:
    one = measured(Mark(1.1, "boot", each=True), ours=[10.0, 13.0], boot=[10.0, 10.0, 12.0])
    assert one.verdicts()[0].floor == pytest.approx(1.2)
    assert "(worst 1.30; of boot 1.20)" in table.markdown([one])


def test_without_a_value_of_codexd_s_nothing_is_met() -> None:
    one = measured(Mark(1.1, "boot"), Mark(52), boot=[10.0])
    assert [verdict.is_met for verdict in one.verdicts()] == [None, None]


def test_a_spread_is_the_middle_half() -> None:
    assert Spread.of([7.0]) == Spread(7.0, 7.0, 7.0)
    assert Spread.of([5.0, 1.0, 4.0, 2.0, 3.0]) == Spread(3.0, 2.0, 4.0)


def test_the_table_has_a_line_for_each_side_and_says_who_is_missing() -> None:
    one = measured(Mark(1.2, "boot"), ours=[12.5, 12.5], boot=[10.0, 10.0])
    one.missing["peer"] = "npm is not here"
    head, rule, *lines = table.markdown([one]).splitlines()
    assert len({len(line) for line in (head, rule, *lines)}) == 1
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    assert cells == [
        ["a.row: what it is", "codexd", "12.50 ms", "12.50 to 12.50", "", "", ""],
        ["", "boot", "10.00 ms", "10.00 to 10.00", "1.25", "≤ 1.2", "missed"],
        ["", "peer", "–", "", "", "", ""],
    ]
    assert table.left_out([one]) == "a.row: without peer: npm is not here"
    other = measured(Mark(1), Mark(3), Mark(1, "peer"), ours=[2.0])
    assert table.summary([one, other]) == "1 of 4 marks are met; missed: a.row; open: a.row"


def test_programs_get_every_value() -> None:
    one = measured(Mark(1.2, "boot"), ours=[12.0, 13.0], boot=[10.0])
    (row,) = table.document([one], machine="x")["rows"]
    assert row["sides"]["codexd"]["values"] == [12.0, 13.0]
    assert row["sides"]["boot"]["ratio"] == pytest.approx(1.25)
    assert (row["marks"][0]["beside"], row["marks"][0]["met"]) == ("boot", False)


def test_every_row_is_well_formed() -> None:
    names = [row.name for row in ROWS]
    assert len(set(names)) == len(names)
    for row in ROWS:
        assert row.title
        assert row.unit
        assert OURS not in row.baselines
        # What is promised of it is beside something that is measured, too.
        assert {mark.beside for mark in row.marks} <= {"", *row.baselines}
        assert all(mark.limit > 0 for mark in row.marks)


def test_every_module_that_has_rows_is_in_the_table() -> None:
    listed = {id(bench) for bench in BENCHES}
    for path in Path(benchmarks.__path__[0]).glob("bench_*.py"):
        module = importlib.import_module(f"tests.benchmarks.{path.stem}")
        assert {id(bench) for bench in getattr(module, "BENCHES", ())} <= listed, path.stem


def test_rows_are_chosen_by_name_or_by_its_beginning() -> None:
    def nothing(_: object) -> None: ...

    one, two, other = (Row(name, "t", "s") for name in ("a.one", "a.two", "ab"))
    benches = (Bench((one, two), nothing), Bench((other,), nothing))
    assert [bench.rows for bench in choose(benches, "")] == [(one, two), (other,)]
    assert [bench.rows for bench in choose(benches, "a")] == [(one, two)]
    assert [bench.rows for bench in choose(benches, "ab, a.two")] == [(two,), (other,)]
    with pytest.raises(ValueError, match=r"there is no row a\.on; there are a\.one, a\.two, ab"):
        choose(benches, "a.on")


def test_each_side_is_the_first_in_its_turn() -> None:
    assert [rotated(["a", "b", "c"], number)[0] for number in range(4)] == ["a", "b", "c", "a"]


def test_a_peer_that_cannot_be_had_is_left_out_with_a_word(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("python", "s6", "pm2"):
        (tmp_path / name).mkdir()
    # An earlier run was killed while it got this one.
    (tmp_path / "pm2.begun").touch()
    monkeypatch.setenv("PATH", str(tmp_path))
    said: list[str] = []
    peers = Peers(tmp_path)
    peers.set_up(said.append)
    assert peers.missing == {"pm2": "npm is not here", "runit": "apt-get is not here"}
    assert said[1] == "without pm2: npm is not here"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["python", "s6"]


def test_what_a_run_started_ends_with_it(tmp_path: Path) -> None:
    started = []

    def interrupted() -> None:
        with Scene(Peers(tmp_path), []) as scene:
            # Nobody else has it in hand, as nobody has what a supervisor starts.
            env = {"CODEX_HOME": str(scene.place("peer") / "home")}
            sleeps = [sys.executable, "-ISc", "import signal; signal.pause()"]
            process = subprocess.Popen(sleeps, env=env, start_new_session=True)
            started.append((process, scene.directory))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    ((process, directory),) = started
    assert not psutil.pid_exists(process.pid)
    assert not directory.exists()
    process.wait()


@pytest.mark.parametrize("size", [0, 125, 126, 65_535, 65_536])
def test_a_frame_is_read_as_it_was_written(size: int) -> None:
    payload = b"x" * size
    frame = masked(payload)
    # As a server sends it: without the mask, of which there are four bytes.
    head = frame[: len(frame) - size - 4]
    unmasked = head[:1] + bytes([head[1] & 0x7F]) + head[2:] + payload
    first, begin, end = first_frame(unmasked + b"more") or (0, 0, 0)
    assert (first, unmasked[begin:end]) == (0x81, payload)
    assert first_frame(unmasked[:-1]) is None


def test_deltas_are_counted_wherever_a_read_ends() -> None:
    said = b'{"method":"item/agentMessage/delta"}' * 3 + b'{"method":"turn/completed"}'
    for cut in range(1, len(said)):
        pieces: Iterator[bytes] = iter((said[:cut], said[cut:]))
        listener: Any = Listener.__new__(Listener)
        listener._rest = b""
        listener._read = lambda pieces=pieces: next(pieces)
        listener.begin()
        listener.hear()
        listener.hear()
        assert (listener.deltas, listener.is_done) == (3, True), cut
