"""Every file of codexd with every kind of thing in its place: a start, commands, a running daemon.

``python -m tests.faults.odd_files [KIND]...`` tries each file with each kind, one after the other:
half an hour. The suite tries many at once on a few daemons.
"""

from __future__ import annotations

import os
import re
import stat
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

from codexd.eventlog.reader import events_backward
from tests.support.daemon import DaemonBox, daemon_box
from tests.support.odd import DAMAGED, ODD, Victim, put
from tests.support.stub import stub_flags
from tests.support.waiting import eventually

STATE = (
    "identity.json",
    "daemon-state.json",
    "session-registry.json",
    "recent-events.json",
    "watcher.json",
    "daemon.lock",
    "writer.lock",
)
LOGS = ("events.jsonl", "stdout.log", "stderr.log", "codexd.log", "daemon.log", "events.jsonl.1")
RUNTIME = (
    "circus.ini",
    "handshake.json",
    "family.json",
    "circus.sock",
    "events.sock",
    "codexd.sock",
    "io",
)
FILES = (
    *(f"state/codexd/{name}" for name in STATE),
    *(f"logs/codexd/{name}" for name in LOGS),
    *(f"state/codexd/run/{name}" for name in RUNTIME),
)
KINDS = (*ODD, *DAMAGED)
# Made when there is something to write, or only at the start.
_NOT_MADE_AGAIN = {"family.json", "codexd.log", "daemon.log", "events.jsonl.1", "circus.ini", "io"}


def run_here(
    root: Path, before: Mapping[str, str], while_it_runs: Mapping[str, str], *flags: str
) -> None:
    """A daemon that finds things of a kind (file: kind) at its start, and gets some as it runs."""
    victim = Victim(root / "victim")
    with daemon_box(root / "repo", *stub_flags(), *flags) as box:
        box.start()
        box.stop_cleanly()
        known = box.read("identity.json")
        place(box, before, victim)
        look(box)
        # Not waited for as usual: that reads the files, whatever they are.
        box.start(wait=False)
        check_right(box, before)
        victim.check()
        if not {"state/codexd/identity.json", "state/codexd/daemon-state.json"} & set(before):
            assert box.read("identity.json") == known
        identity = box.read("identity.json")
        place(box, while_it_runs, victim)
        look(box)
        eventually(lambda: is_up(box), within_s=40, what="circus and the hub")
        wait_right(box, while_it_runs)
        assert box.read("identity.json") == identity
        box.stop_cleanly()
        look(box)
        victim.check()
        check_numbers(box)
        troubles = (box.errors() + box.output()).split("Traceback")[1:]
        # What circus says when two of its commands meet has nothing to do with files.
        assert [text for text in troubles if "ConflictError" not in text] == []


def place(box: DaemonBox, kinds: Mapping[str, str], victim: Victim) -> None:
    """Put the things there."""
    for file, kind in kinds.items():
        path = box.root / file
        path.parent.mkdir(parents=True, exist_ok=True)
        put(kind, path, victim)


def look(box: DaemonBox) -> None:
    """Commands that only look neither hang nor fail, whatever is there."""
    for arguments in (("status",), ("status", "--json"), ("events",), ("logs", "stderr", "-n0")):
        done = box.run(*arguments, timeout_s=30)
        assert (done.returncode, done.stderr) == (0, ""), (arguments, done.stderr)


def is_up(box: DaemonBox) -> bool:
    """Whether a client would find a server now, and an operator circus."""
    asked = box.run("ctl", "status", "codex-app-server", timeout_s=30)
    return box.run("status", "--check").returncode == 0 and asked.stdout.strip() == "active"


def wait_right(box: DaemonBox, kinds: Mapping[str, str]) -> None:
    """Wait until each file is one again, or at least nothing else."""
    wrong: list[str] = []

    def look() -> bool:
        wrong[:] = [file for file in kinds if not _is_right(box.root / file)]
        return not wrong

    try:
        eventually(look, within_s=20)
    except AssertionError:
        raise AssertionError(f"not right again: {wrong}") from None


def _is_right(path: Path) -> bool:
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return path.name in _NOT_MADE_AGAIN
    if path.name.endswith(".sock"):
        return stat.S_ISSOCK(mode)
    if path.name == "io":
        return stat.S_ISDIR(mode)
    is_ours = path.name in _NOT_MADE_AGAIN or stat.S_IMODE(mode) == 0o600
    return stat.S_ISREG(mode) and is_ours


def check_right(box: DaemonBox, before: Mapping[str, str]) -> None:
    """A daemon that found odd things runs, has set them aside, and says so."""
    eventually(lambda: is_up(box), within_s=40, what="circus and the hub")
    wait_right(box, before)
    events = events_backward(str(box.logs_dir / "events.jsonl"))
    told = " ".join(event.message for event in events if event.type == "state.repaired")
    for file, kind in before.items():
        if kind in ODD and not (file.endswith("/io") and kind == "directory"):
            name = os.path.basename(file)
            assert list((box.root / file).parent.glob(f"{name}.bad-*")), file
            assert re.search(rf"\b{re.escape(name)} ", told), (name, told)


def check_numbers(box: DaemonBox) -> None:
    """No number of an event is given twice, and none is left out."""
    seqs = [event.seq for event in events_backward(str(box.logs_dir / "events.jsonl"))][::-1]
    assert seqs == list(range(seqs[0], seqs[0] + len(seqs)))


def mixture(turn: int) -> dict[str, str]:
    """Each file with a kind; another turn, another kind."""
    return {file: KINDS[(number + turn) % len(KINDS)] for number, file in enumerate(FILES)}


def main(kinds: list[str]) -> None:
    """Each file with each kind, alone."""
    bad = []
    for kind in kinds or KINDS:
        for file in FILES:
            with tempfile.TemporaryDirectory(prefix="odd-", dir="/tmp") as root:
                try:
                    run_here(Path(root), {file: kind}, {file: kind})
                    outcome = "ok"
                except Exception as error:
                    outcome = f"{type(error).__name__}: {str(error)[:300]}"
                    bad.append((file, kind))
            print(f"{file}: {kind}: {outcome}", flush=True)
    print(f"{len(bad)} failed", *bad, sep="\n  ")
    sys.exit(1 if bad else 0)


if __name__ == "__main__":
    main(sys.argv[1:])
