from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codexd.eventlog.last_words import last_words

# As codex 0.163 prints them.
NOISE = (
    "WARNING: proceeding, even though we could not create PATH aliases: Refusing (codex_home)\n"
    "\x1b[2m2026-11-25T16:02:08.118878Z\x1b[0m \x1b[31mERROR\x1b[0m \x1b[2mcodex_app_server"
    "\x1b[0m\x1b[2m:\x1b[0m Codex could not find bubblewrap on PATH.\n"
)
FRAMES = "\nStack backtrace:\n" + "".join(f"   {number}: <unknown>\n" for number in range(300))


@pytest.mark.parametrize(
    ("stderr", "reason"),
    [
        (
            f"{NOISE}Error: Address in use (os error 98)\n{FRAMES}",
            "Error: Address in use (os error 98)",
        ),
        (
            f"{NOISE}error: unexpected argument '--nope' found\n\n  tip: a similar one exists\n\n"
            "Usage: codex app-server [OPTIONS] [COMMAND]\n\nFor more information, try '--help'.\n",
            "error: unexpected argument '--nope' found",
        ),
        (
            "\x1b[2m2026-11-25T16:02:08.235244Z\x1b[0m \x1b[31mERROR\x1b[0m \x1b[2mcodex"
            "\x1b[0m\x1b[2m:\x1b[0m Invalid configuration",
            "ERROR codex: Invalid configuration",
        ),
        (
            "thread 'main' panicked at src/main.rs:7:9:\nindex out of bounds\n"
            "note: run with `RUST_BACKTRACE=1` environment variable to display a backtrace\n",
            "thread 'main' panicked at src/main.rs:7:9: index out of bounds",
        ),
        (
            'Traceback (most recent call last):\n  File "x.py", line 3, in <module>\n'
            "    import nope\n    ^^^^^^^^^^^\nModuleNotFoundError: No module named 'nope'\n",
            "ModuleNotFoundError: No module named 'nope'",
        ),
        (
            "node:internal/modules:1145\n  throw err;\n  ^\n\nError: Cannot find module '/x.js'\n"
            "    at Module._resolve (node:internal:1142:15)\n    at node:internal/main:9 {\n"
            "  code: 'MODULE_NOT_FOUND',\n}\n\nNode.js v22.1.0\n",
            "Error: Cannot find module '/x.js'",
        ),
        ("sh: 1: codexx: not found\n", "sh: 1: codexx: not found"),
        ("one\ntwo\n\n2026-11-25T16:02:08Z\n----\n\x1b[0m\n", "two"),
        ("\x1b]0;a title\x07said\x9b31m so\tmuch\n", "said so much"),
        ("x" * 400, "x" * 299 + "…"),
        ("", None),
        (" \n\x1b[0m\n", None),
    ],
)
def test_the_line_that_says_why(stderr: str, reason: str | None) -> None:
    assert last_words(stderr.encode()) == reason


def test_a_line_that_lost_its_beginning_says_nothing() -> None:
    assert last_words(b"of a long line\nwhole\n", is_cut=True) == "whole"
    assert last_words(b"of a long line", is_cut=True) is None


@given(st.binary(max_size=400))
def test_whatever_is_printed_it_is_one_short_line(stderr: bytes) -> None:
    words = last_words(stderr)
    assert words is None or (0 < len(words) <= 300 and words.isprintable())
