"""`codexd logs`."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import BinaryIO

import click

from codexd.cli.moments import Moment
from codexd.cli.options import Count, daemon_options
from codexd.cli.streams import reader_is_gone, tell_if_nothing_is, writing_to
from codexd.cli.terminal import Paint, clipped, columns, harmless, is_terminal, painter
from codexd.client.owner import check_owner
from codexd.config import Config
from codexd.eventlog.accounting import written_before
from codexd.eventlog.bytes_reader import Place, read_bytes, read_logs

_LAST = 20
_MARKS = {"stdout": "out| ", "stderr": "err| "}


@click.command("logs")
@click.argument("stream", type=click.Choice(["stdout", "stderr"]), required=False)
@click.option("-n", "--lines", metavar="N", type=Count(), help="Only the last N.")
@click.option("--since", metavar="TIME", type=Moment(), help="Only from then on: 10m, 14:30, …")
@click.option("-f", "--follow", is_flag=True, help="Go on with what comes.")
@daemon_options
def logs(
    config: Config, stream: str | None, lines: int | None, since: str | None, follow: bool
) -> None:
    """Print what the server wrote, byte for byte, over rotated logs.

    On a terminal it is the last 20 lines of stdout and of stderr, each with its mark and cut to the
    width; those of one, where it is named, are whole. Elsewhere it is all of stdout, or of the one
    that is named.
    """
    check_owner(config.paths, config.runtime, root_may=True)
    names = [stream or "stdout"]
    if is_terminal(sys.stdout):
        names = [stream] if stream else ["stdout", "stderr"]
        if lines is None and since is None:
            lines = _LAST
    found = [(_path(config, name), _place(config, name, since)) for name in names]
    if follow:
        tell_if_nothing_is(found[0][0])
    with writing_to(sys.stdout.buffer) as out:
        stop = reader_is_gone(out) if follow else lambda: True
        if is_terminal(sys.stdout):
            marks = ["" if stream else _MARKS[name] for name in names]
            _show(read_logs(found, lines=lines, stop=stop), marks, out)
            return
        ((path, after),) = found
        for piece in read_bytes(path, lines=lines, after=after, stop=stop):
            out.write(piece)
            out.flush()


def _show(pieces: Iterable[tuple[int, bytes]], marks: list[str], out: BinaryIO) -> None:
    """Lines for people, as they come."""
    shown = [Lines(mark, painter()) for mark in marks]
    is_empty = True
    for number, piece in pieces:
        is_empty = False
        out.write(shown[number].feed(piece).encode())
        out.flush()
    for rest in shown:
        out.write(rest.finish().encode())
    if is_empty:
        print("codexd: the server has written nothing of that", file=sys.stderr)


class Lines:
    """The lines of one log for a terminal: nothing in them steers it.

    With a mark, each begins with it and is cut to the width.
    """

    def __init__(self, mark: str, paint: Paint) -> None:
        self._mark = mark
        self._paint = paint
        self._held = b""

    def feed(self, data: bytes) -> str:
        """What is whole of it."""
        *lines, self._held = (self._held + data).split(b"\n")
        return "".join(map(self._shown, lines))

    def finish(self) -> str:
        """What has no end."""
        held, self._held = self._held, b""
        return self._shown(held) if held else ""

    def _shown(self, line: bytes) -> str:
        text = harmless(line.decode("utf-8", "replace"))
        if self._mark:
            # A tab is as wide as its place makes it.
            text = clipped(text.expandtabs(), columns() - len(self._mark))
        return f"{self._paint(self._mark, 'dim')}{text}\n"


def _path(config: Config, name: str) -> str:
    paths = config.paths
    return paths.stdout_log_path if name == "stdout" else paths.stderr_log_path


def _place(config: Config, name: str, since: str | None) -> Place | None:
    """Where the log stood at a time."""
    if since is None:
        return None
    found = written_before(config.paths.structured_event_log_path, name, since)
    return None if found is None else Place(*found)
