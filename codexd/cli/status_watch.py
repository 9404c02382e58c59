"""`codexd status` on a terminal, once or until Ctrl-C; and `--watch` where there is none."""

from __future__ import annotations

import contextlib
import os
import select
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Final

import click

from codexd import __version__
from codexd.child import steps
from codexd.cli.called import called
from codexd.cli.status import notes, status_line
from codexd.cli.status_block import View, block
from codexd.cli.streams import reader_is_gone, writing_to
from codexd.cli.terminal import cells, columns, harmless, is_terminal, painter
from codexd.cli.top.tty import obey
from codexd.client.live import look
from codexd.client.owner import check_owner
from codexd.config import Config
from codexd.daemons.listing import running
from codexd.store.snapshot import read_snapshot

_PERIOD_S: Final = 1.0
# ECMA-48, and xterm's screen that leaves what was there before as it was.
_ENTER: Final = "\x1b[?1049h\x1b[?25l"
_LEAVE: Final = "\x1b[?25h\x1b[?1049l"
_HOME: Final = "\x1b[H"
_CLEAR_LINE: Final = "\x1b[K"
_CLEAR_BELOW: Final = "\x1b[J"
# What changes with every message, and is no change of the state.
_RESTLESS: Final = "recent_events="


def take_view(config: Config) -> View:
    """Look at all of it."""
    snapshot = read_snapshot(config)
    live = look(config, snapshot.daemon)
    is_alive = live.details["daemonAlive"]
    taken = steps.load(steps.path_of(config.paths.state_dir)).steps
    here = config.paths.state_dir
    return View(
        snapshot=snapshot,
        live=live,
        ends=[step for step in taken if step.kind == "ended"],
        elsewhere=[] if is_alive else [d for d in running(os.environ) if d.state_dir != here],
        cwd=_cwd(),
        home=os.environ.get("HOME", ""),
        version=__version__,
        now=datetime.now(UTC),
        called=called(),
    )


def _cwd() -> str:
    with contextlib.suppress(OSError):
        return os.getcwd()
    return ""


def _lines(config: Config) -> list[str]:
    return block(take_view(config), columns(), painter())


def show_status(config: Config) -> None:
    """Print it once."""
    check_owner(config.paths, config.runtime, root_may=True)
    click.echo("\n".join(_lines(config)))


def watch_status(config: Config) -> None:
    """Show it until Ctrl-C: again and again in its place, or a line for every change."""
    check_owner(config.paths, config.runtime, root_may=True)
    with contextlib.suppress(KeyboardInterrupt):
        if is_terminal() and os.environ.get("TERM", "dumb") not in ("", "dumb"):
            _redraw(config)
        else:
            _tell_changes(config)


def _redraw(config: Config) -> None:
    lines: list[str] = []
    try:
        with _own_screen() as pause:
            while True:
                lines = _lines(config)
                size = shutil.get_terminal_size()
                fitted = _fitted(lines, size.columns, size.lines)
                shown = "".join(f"{line}{_CLEAR_LINE}\n" for line in fitted)
                click.echo(f"{_HOME}{shown}{_CLEAR_BELOW}", nl=False, color=True)
                pause(_PERIOD_S)
    finally:
        # What was seen last stays to be read.
        if lines:
            click.echo("\n".join(lines))


def _fitted(lines: list[str], width: int, height: int) -> list[str]:
    """The first that fit the screen; the last of all, for programs, is not among them."""
    shown: list[str] = []
    left = height - 1
    for line in lines[:-1]:
        left -= max(1, -(-cells(harmless(line)) // width))
        if left < 0:
            break
        shown.append(line)
    return shown


@contextlib.contextmanager
def _own_screen() -> Iterator[Callable[[float], None]]:
    """The screen that programs draw on; yields a pause, which ends when it is to be drawn anew.

    A terminal that shows this program no more is to show what was there before: at its end, and
    while it is stopped by Ctrl-Z.
    """
    woken, wake = os.pipe()
    os.set_blocking(woken, False)
    os.set_blocking(wake, False)

    def pause(seconds: float) -> None:
        select.select([woken], [], [], seconds)
        with contextlib.suppress(BlockingIOError):
            os.read(woken, 4096)

    before = {
        signum: signal.signal(signum, handler)
        for signum, handler in _HANDLERS.items()
        if signal.getsignal(signum) is not signal.SIG_IGN
    }
    woken_before = signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
    click.echo(_ENTER, nl=False, color=True)
    try:
        yield pause
    finally:
        click.echo(_LEAVE, nl=False, color=True)
        signal.set_wakeup_fd(woken_before)
        for signum, was in before.items():
            signal.signal(signum, was)
        os.close(woken)
        os.close(wake)


def _end(signum: int, _frame: object) -> None:
    sys.exit(128 + signum)


def _stop(_signum: int, _frame: object) -> None:
    # Past Python's buffer, in which the signal may have come.
    os.write(1, _LEAVE.encode())
    obey(signal.SIGTSTP)
    os.write(1, _ENTER.encode())


def _draw_anew(_signum: int, _frame: object) -> None:
    """The signal ends the pause."""


_HANDLERS: Final = {
    signal.SIGTERM: _end,
    signal.SIGHUP: _end,
    signal.SIGTSTP: _stop,
    signal.SIGCONT: _draw_anew,
    signal.SIGWINCH: _draw_anew,
}


def _tell_changes(config: Config) -> None:
    with writing_to(sys.stdout.buffer) as out:
        # A file has no reader that could leave.
        is_gone: Callable[[], bool] = reader_is_gone(out)
        told = ""
        while not is_gone():
            snapshot = read_snapshot(config)
            live = look(config, snapshot.daemon)
            # As without --watch: what is no terminal gets the line alone.
            said = notes(live) if is_terminal() else []
            text = "\n".join([status_line(snapshot, live), *(f"codexd: {note}" for note in said)])
            what = " ".join(word for word in text.split(" ") if not word.startswith(_RESTLESS))
            if what != told:
                told = what
                out.write(f"{text}\n".encode(errors="surrogateescape"))
                out.flush()
            time.sleep(_PERIOD_S)
