"""circus.ini."""

from __future__ import annotations

import re
import sys

from codexd.config import Config, has_spare
from codexd.rendering.errors import CannotRender
from codexd.rendering.templates import render
from codexd.settings_ini import LOG_LEVEL, PLUGIN, WORKING_DIR, plugin_argv, plugin_options


def render_circus_ini(config: Config, *, python: str = sys.executable) -> str:
    """The ini for circus's arbiter, or for a stock `circusd`.

    ``python`` is the interpreter that will run circus, and so the plugin.

    Raises:
        CannotRender: the interpreter's path cannot be written into an ini.
    """
    return render(
        "circus.ini.j2",
        runtime=config.runtime,
        log_level=LOG_LEVEL,
        spawns=config.server.child_strategy == "spawn",
        spare=has_spare(config),
        stop_timeout_s=config.policy.stop_timeout_ms / 1000,
        plugin=PLUGIN,
        plugin_command=_plugin_command(config, python),
        working_dir=WORKING_DIR,
        options=plugin_options(config),
    )


def _plugin_command(config: Config, python: str) -> str | None:
    """The plugin's command line, where the one that circus makes would not do.

    Circus writes the path of the interpreter into it as it is, and splits it at white space.
    """
    if re.fullmatch(r"[\w./+@-]+", python, re.ASCII):
        return None
    _, option, code, *rest = plugin_argv(config, python)
    return " ".join([_quote_word(python), option, f"'{code}'", *rest])


def _quote_word(path: str) -> str:
    if not path.isprintable():
        raise CannotRender(f"The path of the interpreter cannot be written into an ini: {path!r}.")
    # Each odd character in quotes of its own, so that circus sees no $(…), ((…)) or comment.
    return re.sub(r"[^\w./-]", lambda found: _quote_character(found[0]), path)


def _quote_character(character: str) -> str:
    return '"\'"' if character == "'" else f"'{character}'"
