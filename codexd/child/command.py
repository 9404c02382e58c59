"""Which program the child is, and with which arguments it starts."""

from __future__ import annotations

import os
from collections.abc import Mapping

import msgspec

from codexd.child.shim import candidates, leads_back
from codexd.config import Server


class CommandNotFound(FileNotFoundError):
    """The configured command is not there. The text is one line for the user."""


class Program(msgspec.Struct, frozen=True):
    """What is executed: an absolute path, and the environment it is executed in."""

    path: str
    environ: dict[str, str]


def find_program(server: Server, environ: Mapping[str, str]) -> Program:
    """The child's program: where the command is npm's `codex`, the native one behind it.

    Raises:
        CommandNotFound: as :func:`find_executable`.
        OSError: nothing can be opened at the moment.
    """
    from codexd.child.npm_shim import behind_shim

    path = find_executable(server, environ)
    native = behind_shim(path, environ)
    return Program(path, dict(environ)) if native is None else Program(native.path, native.environ)


def find_executable(server: Server, environ: Mapping[str, str]) -> str:
    """The absolute path of the child's program; see :func:`locate`.

    Raises:
        CommandNotFound: there is no such program.
    """
    return locate(server.child_command, cwd=server.child_cwd, environ=environ)


def locate(command: str, *, cwd: str, environ: Mapping[str, str]) -> str:
    """The absolute path of a program that is not codexd itself.

    A command without a slash is looked up in the PATH of ``environ``, one with a slash below
    ``cwd``. Where `codex` is not on PATH, the binary of the `codex` extra serves.

    Raises:
        CommandNotFound: there is no such program.
    """
    if "/" in command:
        path = os.path.join(cwd, command)
        if not (os.path.isfile(path) and os.access(path, os.X_OK)):
            raise CommandNotFound(f'The server command "{command}" is not an executable file.')
        if leads_back(path):
            raise CommandNotFound(_circle(command))
        return path
    shims = []
    for path in candidates(command, environ.get("PATH", os.defpath)):
        if not leads_back(path):
            return os.path.abspath(path)
        shims.append(path)
    found = _bundled_codex() if command == "codex" else None
    if found is None:
        raise CommandNotFound(_circle(shims[0]) if shims else _advice(command))
    return os.path.abspath(found)


def _circle(command: str) -> str:
    return (
        f'The server command "{command}" leads back to codexd, which would wait for itself: '
        "name the real codex with --server-command."
    )


def _bundled_codex() -> str | None:
    try:
        from codex_cli_bin import bundled_codex_path
    except ImportError:
        return None
    path = str(bundled_codex_path())
    return path if os.access(path, os.X_OK) else None


def _advice(command: str) -> str:
    advice = "install it, or name another with --server-command."
    if command == "codex":
        advice = "install it (npm install -g @openai/codex), or name it with --server-command."
    return f'The server command "{command}" is not on PATH: {advice}'


def speaks_protocol(server: Server) -> bool:
    """Whether the configured child is one that must answer the handshake.

    Another command in mode app-server may, but nothing is lost if it never does.
    """
    return server.mode == "app-server" and "app-server" in server.child_args


def check_cwd(server: Server) -> None:
    """See that the child's working directory is one.

    Raises:
        NotADirectoryError: with one line for the user.
    """
    if not os.path.isdir(server.child_cwd):
        is_there = os.path.lexists(server.child_cwd)
        what = "is no directory: " if is_there else "does not exist: create it, or "
        raise NotADirectoryError(
            f'The server working directory "{server.child_cwd}" {what}'
            "name another with --server-cwd."
        )


def executable_identity(path: str) -> tuple[str, int, int] | None:
    """The file behind ``path``: (real path, inode, mtime in ns); None where it is gone."""
    try:
        status = os.stat(path)
    except OSError:
        return None
    return (os.path.realpath(path), status.st_ino, status.st_mtime_ns)


def binary_changed(running: tuple[str, int, int] | None) -> bool:
    """Whether the file on disk is another than the one that was started; see `watcher.json`."""
    # A path that is no text cannot be read back from the record, and so not be looked up.
    if running is None or "\N{REPLACEMENT CHARACTER}" in running[0]:
        return False
    return executable_identity(running[0]) != running
