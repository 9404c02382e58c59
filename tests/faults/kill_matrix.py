"""Everything that can be done to a daemon, in random histories; after each, everything must hold.

    python -m tests.faults.kill_matrix --kills 1000

Clients have turns on the real codex all the while. The actions are the table of
tests/support/matrix_actions.py, what must hold is that of tests/support/matrix_checks.py. A
history is drawn from the seed and its own number, so that `--seed S --only N` plays it again. At
the first violation everything stays where it is: the histories, the logs and the state.
"""

from __future__ import annotations

import argparse
import contextlib
import secrets
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Collection, Iterator
from itertools import count
from pathlib import Path
from random import Random

from tests.support.matrix_actions import Step, draw_history, play, single_strikes
from tests.support.matrix_checks import CHECKS
from tests.support.matrix_world import Violated, World

Tell = Callable[[str], None]


def histories(
    seed: str, only: int | None = None, *, spare: bool = False
) -> Iterator[tuple[int, list[Step]]]:
    """Each single strike, then random histories without end; or one of them again and again."""
    singles = single_strikes(spare=spare)
    for turn in count():
        number = turn if only is None else only
        is_single = number < len(singles)
        yield (
            number,
            singles[number] if is_single else draw_history(Random(f"{seed}:{number}"), spare=spare),
        )


def run(
    root: Path,
    tell: Tell,
    *,
    seed: str,
    kills: int | None = None,
    seconds: float | None = None,
    only: int | None = None,
    endpoint: str = "stdio",
    without: Collection[str] = (),
    spare: bool = False,
) -> int:
    """Play histories on a daemon in ``root`` until there were so many kills, or the time is over.

    The single strikes are played in any case, however slow the machine is.

    Returns how many kills there were.

    Raises:
        Violated: with everything that does not hold any more.
    """
    world = World(root, seed, endpoint, without, spare=spare)
    singles = len(single_strikes(spare=spare))
    begun = time.monotonic()
    with world.running():
        for number, history in histories(seed, only, spare=spare):
            is_late = seconds is not None and time.monotonic() - begun > seconds
            may_end = only is not None or number >= singles
            if (kills is not None and world.kills >= kills) or (is_late and may_end):
                break
            tell(f"{number}: {'; '.join(map(str, history))}")
            world.await_spare()
            world.await_turns()
            play(world, history)
            world.settle()
            tell(f"   held ({world.took}); {world.kills} kills; {world.summary()}")
        world.stop()
    return world.kills


def arguments() -> argparse.ArgumentParser:
    """What it is told by hand."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--kills", type=int, help="end after so many signals")
    parser.add_argument("--minutes", type=float, help="end after so long")
    parser.add_argument("--seed", default=secrets.token_hex(4))
    parser.add_argument("--only", type=int, metavar="N", help="history N, again and again")
    parser.add_argument("--endpoint", choices=["stdio", "unix", "ws"], default="stdio")
    parser.add_argument("--spare", action="store_true", help="with a spare, which is hit, too")
    parser.add_argument(
        "--without",
        action="append",
        default=[],
        choices=list(CHECKS),
        metavar="CHECK",
        help="leave out a check, to go on past what is known to be wrong",
    )
    return parser


def main() -> int:
    """Run by hand."""
    options = arguments().parse_args()
    root = Path(tempfile.mkdtemp(prefix="km-", dir="/tmp"))
    told: list[str] = []

    def tell(line: str) -> None:
        told.append(line)
        print(line, flush=True)

    tell(f"seed {options.seed}, in {root}")
    try:
        kills = run(
            root,
            tell,
            seed=options.seed,
            kills=options.kills,
            seconds=None if options.minutes is None else options.minutes * 60,
            only=options.only,
            endpoint=options.endpoint,
            without=options.without,
            spare=options.spare,
        )
    except Violated as violated:
        tell("VIOLATED\n" + "\n".join(f"  {line}" for line in violated.lines))
        (root / "histories.txt").write_text("\n".join(told) + "\n", "utf-8")
        print(f"The histories, the logs and the state are in {root}")
        return 1
    with contextlib.suppress(OSError):
        shutil.rmtree(root)
    print(f"{kills} kills, and everything held")
    return 0


if __name__ == "__main__":
    sys.exit(main())
