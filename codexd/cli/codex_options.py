"""What codex's command line looks like (0.163), as far as finding its subcommand takes."""

from __future__ import annotations

# What may stand before a subcommand with a value of its own.
TAKES_VALUE = frozenset(
    {
        *("-c", "--config", "--enable", "--disable"),
        *("-m", "--model", "-p", "--profile", "--local-provider"),
        *("-s", "--sandbox", "-a", "--ask-for-approval", "-C", "--cd", "--add-dir"),
        *("--remote", "--remote-auth-token-env"),
    }
)
# These take every word up to the next option.
_TAKES_VALUES = frozenset({"-i", "--image"})

# What `codex app-server` calls its subcommands: there is nothing to join them to.
APP_SERVER_COMMANDS = frozenset({"daemon", "proxy", "generate-ts", "generate-json-schema", "help"})
_APP_SERVER_TAKES_VALUE = frozenset(
    {
        *("--listen", "--code-mode-host", "--ws-auth", "--ws-token-file", "--ws-token-sha256"),
        *("--ws-shared-secret-file", "--ws-issuer", "--ws-audience"),
        "--ws-max-clock-skew-seconds",
    }
)


def command_index(args: list[str]) -> int | None:
    """Where codex's subcommand (or its prompt) stands in ``args``; None without one."""
    index = 0
    while index < len(args):
        word = args[index]
        if word == "--":
            return None
        if not word.startswith("-") or word == "-":
            return index
        index += 2 if word in TAKES_VALUE else 1
        while word in _TAKES_VALUES and index < len(args) and not args[index].startswith("-"):
            index += 1
    return None


def split_app_server(args: list[str]) -> tuple[str | None, list[str], bool]:
    """What follows `codex app-server`, taken apart.

    Returns:
        the value of --listen, the other words without --stdio, and whether codex itself is
        asked: for its help, or for a subcommand.
    """
    listen: str | None = None
    rest: list[str] = []
    words = iter(args)
    for word in words:
        if word in ("-h", "--help", "-V", "--version") or word in APP_SERVER_COMMANDS:
            return listen, rest, True
        if word == "--listen":
            listen = next(words, "")
        elif word.startswith("--listen="):
            listen = word.partition("=")[2]
        elif word in TAKES_VALUE or word in _APP_SERVER_TAKES_VALUE:
            rest += [word, *(value for value in [next(words, None)] if value is not None)]
        elif word != "--stdio":
            rest.append(word)
    return listen, rest, False
