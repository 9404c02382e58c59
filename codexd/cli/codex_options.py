"""What codex's command line looks like (0.163, 0.169), as far as finding its subcommand takes."""

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

# What `codex app-server` calls its subcommands; the first ones are the daemon's here.
_SERVED_HERE = frozenset({"daemon", "proxy"})
APP_SERVER_COMMANDS = _SERVED_HERE | {"generate-ts", "generate-json-schema", "help"}
# Where and for whom it listens: `codexd app-server` has these as well, all with a value.
_LISTENING = frozenset(
    {
        *("--listen", "--ws-auth", "--ws-token-file", "--ws-token-sha256"),
        *("--ws-shared-secret-file", "--ws-issuer", "--ws-audience"),
        "--ws-max-clock-skew-seconds",
    }
)
_APP_SERVER_TAKES_VALUE = _LISTENING | {"--code-mode-host"}


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


def split_app_server(args: list[str]) -> tuple[list[str], list[str], bool]:
    """What follows `codex app-server`, taken apart.

    Returns:
        the options that say where and for whom to listen, the other words without --stdio, and
        whether codex itself is asked: for its help, or for a subcommand that is not served here.
    """
    listening: list[str] = []
    rest: list[str] = []
    words = iter(args)
    for word in words:
        if word in _SERVED_HERE:
            # Whoever wants to know what codex can do is told by codex.
            after = list(words)
            is_help = bool({"-h", "--help", "help"} & set(after))
            return listening, [*rest, word, *after], is_help
        if word in ("-h", "--help", "-V", "--version") or word in APP_SERVER_COMMANDS:
            return listening, rest, True
        name = word.partition("=")[0]
        into = listening if name in _LISTENING else rest
        if word in TAKES_VALUE or word in _APP_SERVER_TAKES_VALUE:
            into += [word, *(value for value in [next(words, None)] if value is not None)]
        elif word != "--stdio":
            into.append(word)
    return listening, rest, False
