"""Few open files, played where nobody else opens or closes any: in a process of their own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

PLAYS = Path(__file__).with_name("few_open_files.py")


def test_nobody_stays_without_an_answer_where_open_files_run_out() -> None:
    env = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    flags = ["-q", "-ra", "--noconftest", "-p", "no:xdist", "-p", "no:cacheprovider"]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *flags, str(PLAYS)],
        cwd=PLAYS.parents[2],
        env=env,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=110,
    )
    assert done.returncode == 0, done.stdout
