"""What a terminal is given that nothing else is: colours, columns, local times.

For every command that prints for people as well as for programs:

- ``is_terminal(stream)``: whether it is one; all that follows is for those.
- ``painter(stream)``: a function ``paint(text, "dim")`` that colours, or leaves the text as it is
  where colours are not wanted (NO_COLOR, TERM=dumb) or nobody sees them.
- ``columns()``: how wide it is.
- ``one_line(text)`` and ``harmless(text)``: what others wrote, so that it steers no terminal.
- ``cells(text)``, ``clipped(text, width)``, ``padded(text, width)``: in columns, where a CJK
  character takes two.
- ``table(head, rows, width)``: lines that are no longer than ``width``.
- ``local_time(iso)``: one of our times, as the clock on the wall shows it.

What is printed elsewhere is whole: values parted by tabs, times in UTC.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime
from typing import Final, Literal, TextIO

Style = Literal["bold", "dim", "red", "green", "yellow", "blue", "cyan"]
Paint = Callable[..., str]

# ECMA-48, section 8.3.117 (SGR).
_CODES: Final[dict[str, str]] = {
    "bold": "1",
    "dim": "2",
    "red": "31",
    "green": "32",
    "yellow": "33",
    "blue": "34",
    "cyan": "36",
}
_MIN_WIDTH: Final = 40
_GAP: Final = "  "
# The narrowest that a column is made which has to give way.
_NARROW: Final = 8

# ECMA-48: control sequences (CSI), and strings that end in BEL or ST (OSC, DCS, SOS, PM, APC).
_SEQUENCES: Final = re.compile(
    r"(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]|(?:\x1b[\]PX^_]|[\x9d\x90\x98\x9e\x9f])[^\x07\x1b\x9c\n]*"
    r"(?:\x07|\x1b\\|\x9c)?|\x1b[ -/]*[0-~]"
)
# Unicode's bidirectional controls, which show a text in another order than it has.
_BIDI: Final = (0x061C, 0x200E, 0x200F, *range(0x202A, 0x202F), *range(0x2066, 0x206A))
_CONTROLS: Final = {
    code: None for code in (*range(32), *range(127, 160), *_BIDI) if chr(code) not in "\n\t"
}


def is_terminal(stream: TextIO | None = None) -> bool:
    """Whether ``stream``, by default stdout, is a terminal."""
    return (sys.stdout if stream is None else stream).isatty()


def painter(stream: TextIO | None = None) -> Paint:
    """``paint(text, *styles)`` for what is printed to ``stream``, by default stdout."""
    wanted = not os.environ.get("NO_COLOR") and os.environ.get("TERM", "dumb") not in ("", "dumb")
    return _paint if wanted and is_terminal(stream) else _plain


def _paint(text: str, *styles: Style) -> str:
    codes = ";".join(_CODES[style] for style in styles)
    return f"\x1b[{codes}m{text}\x1b[0m" if codes and text else text


def _plain(text: str, *styles: Style) -> str:
    del styles
    return text


def columns() -> int:
    """The terminal's width; never so little that nothing fits."""
    return max(shutil.get_terminal_size().columns, _MIN_WIDTH)


def harmless(text: str) -> str:
    """``text`` without what would steer a terminal; lines and tabs stay."""
    return _SEQUENCES.sub("", text).translate(_CONTROLS)


def one_line(text: str) -> str:
    """``text`` on one line, with what cannot be seen spelt out: nothing in it is hidden."""
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape").decode() for char in text
    )


def cells(text: str) -> int:
    """How many columns ``text`` takes."""
    return sum(_cells_of(char) for char in text)


def _cells_of(char: str) -> int:
    if unicodedata.category(char) in ("Mn", "Me", "Cf"):
        return 0
    return 2 if unicodedata.east_asian_width(char) in "WF" else 1


def cut(text: str, width: int) -> tuple[str, str]:
    """As much of ``text`` as ``width`` columns hold, and the rest of it."""
    taken = 0
    for count, char in enumerate(text):
        taken += _cells_of(char)
        if taken > width:
            return text[:count], text[count:]
    return text, ""


def clipped(text: str, width: int) -> str:
    """``text`` in at most ``width`` columns; "…" stands for what is left out."""
    if cells(text) <= width:
        return text
    return cut(text, width - 1)[0].rstrip() + "…"


def padded(text: str, width: int) -> str:
    """``text`` with spaces behind it up to ``width`` columns."""
    return text + " " * (width - cells(text))


def table(
    head: Sequence[str],
    rows: Iterable[Sequence[str]],
    width: int,
    *,
    paint: Paint = _plain,
    styles: Callable[[Sequence[str]], Sequence[Style]] | None = None,
) -> Iterator[str]:
    """The lines of a table. Where not all fits, its widest columns give way.

    ``styles(row)`` is how a row is painted; the head is dim.
    """
    lines = [tuple(one_line(cell) for cell in row) for row in (head, *rows)]
    sizes = [max(cells(row[column]) for row in lines) for column in range(len(head))]
    spare = width - len(_GAP) * (len(sizes) - 1) - sum(sizes)
    while spare < 0 and max(sizes) > _NARROW:
        sizes[sizes.index(max(sizes))] -= 1
        spare += 1
    for number, row in enumerate(lines):
        shown = (padded(clipped(cell, size), size) for cell, size in zip(row, sizes, strict=True))
        line = clipped(_GAP.join(shown).rstrip(), width)
        if number == 0:
            yield paint(line, "dim")
        else:
            yield paint(line, *(() if styles is None else styles(row)))


def local_time(iso: str, now: datetime | None = None) -> str:
    """One of our times by the local clock: the time of today, else with its date."""
    try:
        moment = datetime.fromisoformat(iso).astimezone()
    except (ValueError, OverflowError, OSError):
        return one_line(iso)
    today = (datetime.now() if now is None else now).astimezone().date()
    return f"{moment:%H:%M:%S}" if moment.date() == today else f"{moment:%Y-%m-%d %H:%M:%S}"
