"""The command line: which rows, measured where, told how."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import re
import shlex
import signal
import sys
import time
import traceback
from importlib.metadata import version
from pathlib import Path
from types import FrameType
from typing import Any, Final

from tests.benchmarks.peers import Peers, Unavailable, default_directory
from tests.benchmarks.row import OURS, Bench
from tests.benchmarks.scene import Scene, say
from tests.benchmarks.table import document, left_out, markdown, summary

_INTERRUPTED: Final = 130


def arguments(benches: tuple[Bench, ...] = ()) -> argparse.ArgumentParser:
    """What may be said on the command line."""
    names = ", ".join(row.name for bench in benches for row in bench.rows)
    parser = argparse.ArgumentParser(
        prog="ops/bench",
        description="Measure codexd beside its peers, in turns in one run, and print a table.",
        epilog=f"The rows: {names}." if names else None,
    )
    parser.add_argument(
        "--rows", metavar="NAME,…", default="", help="only these: restart.spare, or all of restart"
    )
    parser.add_argument("--quick", action="store_true", help="few repeats: to see that it works")
    parser.add_argument("--json", metavar="FILE", type=Path, help="every value, for programs")
    parser.add_argument(
        "--peers",
        metavar="DIR",
        type=Path,
        default=default_directory(),
        help="where the other supervisors are kept (default: %(default)s)",
    )
    return parser


def alone(benches: tuple[Bench, ...]) -> None:
    """Measure these, and end with an exit code: 0 when all of it was measured."""
    parser = arguments(benches)
    options = parser.parse_args()
    try:
        chosen = choose(benches, options.rows)
        if options.json is not None:
            # Before the time is spent.
            options.json.touch()
    except (ValueError, OSError) as error:
        parser.error(str(error))
    # Whether Python may keep its byte code decides how fast anything starts, and for users it may.
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    signal.signal(signal.SIGTERM, _interrupt)
    signal.signal(signal.SIGINT, _interrupt)
    try:
        sys.exit(0 if run(chosen, options) else 1)
    except KeyboardInterrupt:
        say("interrupted; everything that ran for it has ended")
        sys.exit(_INTERRUPTED)


def choose(benches: tuple[Bench, ...], names: str) -> list[Bench]:
    """The benches with those of their rows that are named, or begin with a name and a dot.

    Raises:
        ValueError: a name is no row's.
    """
    wanted = [name.strip() for name in names.split(",") if name.strip()]
    known = [row.name for bench in benches for row in bench.rows]
    for name in wanted:
        if not any(_is_named(row, [name]) for row in known):
            raise ValueError(f"there is no row {name}; there are {', '.join(known)}")
    chosen = [
        Bench(
            tuple(row for row in bench.rows if not wanted or _is_named(row.name, wanted)),
            bench.measure,
        )
        for bench in benches
    ]
    return [bench for bench in chosen if bench.rows]


def _is_named(row: str, names: list[str]) -> bool:
    return any(row == name or row.startswith(f"{name}.") for name in names)


def run(benches: list[Bench], options: argparse.Namespace) -> bool:
    """Set up, measure and print; False where codexd itself could not be measured."""
    begun, load = time.monotonic(), os.getloadavg()[0]
    peers = Peers(options.peers.absolute())
    try:
        with peers.held():
            peers.set_up(say)
            rows = [row for bench in benches for row in bench.rows]
            with Scene(peers, rows, is_quick=options.quick) as scene:
                for bench in benches:
                    _measure(bench, scene)
    except Unavailable as why:
        say(str(why))
        return False
    about = {
        "machine": _machine(),
        "versions": {**_versions(), **peers.versions()},
        "loadBefore": round(load, 2),
        "loadAfter": round(os.getloadavg()[0], 2),
        "seconds": round(time.monotonic() - begun),
        "command": shlex.join(["ops/bench", *sys.argv[1:]]),
        "missing": peers.missing,
    }
    measured = list(scene.measured.values())
    print(_heading(about))
    print(markdown(measured))
    print(left_out(measured))
    print(summary(measured), flush=True)
    if options.json is not None:
        text = json.dumps(document(measured, **about), indent=2, ensure_ascii=False)
        options.json.write_text(text + "\n", "utf-8")
    return not scene.has_failed


def _measure(bench: Bench, scene: Scene) -> None:
    """One bench; what goes wrong in it is told, and the next one has its turn."""
    try:
        bench.measure(scene)
    except Exception as error:
        traceback.print_exc()
        scene.has_failed = True
        last = str(error).strip().splitlines()[-1:] or [type(error).__name__]
        scene.miss(OURS, f"it failed: {last[0][:100]}", bench.rows)


def _heading(about: dict[str, Any]) -> str:
    versions = ", ".join(f"{name} {value}" for name, value in about["versions"].items())
    load = f"load {about['loadBefore']} before, {about['loadAfter']} after"
    return f"{about['machine']}; {versions}; {load}; {about['seconds']} s: {about['command']}\n"


def _machine() -> str:
    model = platform.machine()
    with contextlib.suppress(OSError):
        found = re.search(r"(?m)^model name\s*: (.+)$", Path("/proc/cpuinfo").read_text())
        model = found[1] if found else model
    return f"{os.cpu_count()} cores ({model}), {platform.system()} {platform.release()}"


def _versions() -> dict[str, str]:
    packages = {"codexd": "codexd", "codex": "openai-codex-cli-bin", "circus": "circus"}
    told = {name: version(package) for name, package in packages.items()}
    return {**told, "Python": platform.python_version()}


def _interrupt(signum: int, frame: FrameType | None) -> None:
    """Once: what ends things is not to be broken off itself."""
    del frame
    for each in (signal.SIGINT, signal.SIGTERM):
        signal.signal(each, signal.SIG_IGN)
    raise KeyboardInterrupt(signum)
