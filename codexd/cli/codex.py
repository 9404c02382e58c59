"""`codexd-codex`: codex in everything but `app-server`, which is the daemon's.

For tools that may name only a binary. It runs the real codex, in its own place, with the very same
arguments; `codex app-server` joins stdin and stdout to the daemon as `codexd app-server` does.
"""

from __future__ import annotations

import functools
import os
import re
import sys

from codexd import __version__
from codexd.cli.codex_options import command_index, split_app_server

_COMMAND_VARIABLE = "BAA_CODEXD_SERVER_COMMAND"
# A shim that is not known for one would come back here for ever.
_DEPTH_VARIABLE = "BAA_CODEXD_CODEX_DEPTH"
_MAX_DEPTH = 8
_NOT_FOUND = 127
_VERSION_S = 5.0
_VERSION = re.compile(r"\d+\.\d+\.\d+[-.+0-9A-Za-z]*")


def main() -> None:
    """Run the command line of codex; returns only where it is served here."""
    args = sys.argv[1:]
    index = command_index(args)
    if index is not None and args[index] == "app-server":
        listening, rest, is_for_codex = split_app_server(args[index + 1 :])
        if not is_for_codex:
            from codexd.cli.main import main as codexd

            codexd(["app-server", *listening, "--", *args[:index], *rest])
            return
    run_codex(args)


def run_codex(args: list[str]) -> None:
    """Be the real codex from now on, with these arguments."""
    from codexd.child.command import CommandNotFound

    try:
        depth = _depth() + 1
        if depth > _MAX_DEPTH:
            raise CommandNotFound(
                "The codex on PATH leads back to codexd-codex: name the real one with "
                f"{_COMMAND_VARIABLE}."
            )
        program = real_codex()
    except CommandNotFound as error:
        print(f"codexd-codex: {error}", file=sys.stderr)
        sys.exit(_NOT_FOUND)
    os.environ[_DEPTH_VARIABLE] = str(depth)
    try:
        os.execv(program, [program, *args])
    except OSError as error:
        print(f"codexd-codex: {program} cannot be run: {error.strerror}", file=sys.stderr)
        sys.exit(126)


def _depth() -> int:
    text = os.environ.get(_DEPTH_VARIABLE, "")
    return int(text) if text.isascii() and text.isdigit() and len(text) < 4 else 0


def real_codex() -> str:
    """The codex that the environment names, or the first on PATH that is not codexd's.

    Raises:
        codexd.child.command.CommandNotFound: there is none.
    """
    from codexd.child.command import locate

    command = os.environ.get(_COMMAND_VARIABLE, "").strip()
    is_codex = os.path.basename(command).startswith("codex")
    return locate(command if is_codex else "codex", cwd=os.getcwd(), environ=os.environ)


def version_text() -> str:
    """What `codexd --version` says: codex's version first, which is what tools look for."""
    from codexd.child.command import CommandNotFound

    ours = f"codexd {__version__}"
    try:
        line = _version_line(real_codex())
    except CommandNotFound:
        return ours
    return f"{line} (by {ours})" if line else ours


@functools.cache
def version_of(program: str) -> str | None:
    """The version of a codex, as a number with its dots; None where it does not tell."""
    match = _VERSION.search(_version_line(program) or "")
    return match[0] if match else None


def _version_line(program: str) -> str | None:
    from codexd.platform.program import NoAnswer, ask

    try:
        code, said = ask([program, "--version"], os.environ, _VERSION_S)
    except (OSError, NoAnswer):
        return None
    line = said.decode("utf-8", "replace").strip().partition("\n")[0]
    is_version = code == 0 and _VERSION.search(line) and line.isprintable()
    return line if is_version else None
