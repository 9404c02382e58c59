"""Our settings in circus.ini, and read back from what circus hands on.

Circus escapes nothing. A setting of [plugin:codexd] goes through its ini parser (comments,
continued lines), through the replacement of ``$(circus.x)`` and ``((circus.x))``, and, joined
to one word by ``:`` and ``:::``, through ``shlex.split``. So a value is percent-encoded until
no character is left that means something to any of them.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from typing import Final

from codexd.config import Config, resolve, setting_texts
from codexd.settings import BY_NAME, SETTINGS, SettingError

PLUGIN: Final = "codexd.circus_ext.plugin.CodexdPlugin"
LOG_LEVEL: Final = "WARNING"
WORKING_DIR: Final = "/"
_NAME: Final = "plugin:codexd"
_SECTION: Final = f"[{_NAME}]"
_ESCAPE: Final = re.compile(rb"%([0-9a-fA-F]{2})")

# Seconds that the plugin has beyond the child: it lets the child end and writes down how it did.
PLUGIN_GRACE_S = 10


def read_plugin_settings(options: Mapping[str, str]) -> Config:
    """The configuration that :func:`encode_settings` wrote; circus's own options are ignored.

    Raises:
        codexd.settings.SettingError: a setting that was edited into something unusable.
    """
    texts = {
        setting.env[0]: _unquoted(options[_option(setting.name)])
        for setting in SETTINGS
        if _option(setting.name) in options
    }
    return resolve({}, texts, cwd="/")


def parse_ini(data: bytes) -> Config | None:
    """The settings in an ini that codexd rendered; None where it has none that can be used."""
    lines = data.decode("utf-8", "surrogateescape").splitlines()
    if _SECTION not in lines:
        return None
    begin = lines.index(_SECTION) + 1
    options: dict[str, str] = {}
    for line in lines[begin:]:
        if line.startswith("["):
            break
        name, separator, value = line.partition(" = ")
        if separator:
            options[name] = value
    try:
        return read_plugin_settings(options)
    except SettingError:
        return None


def plugin_options(config: Config) -> dict[str, str]:
    """The options of [plugin:codexd], circus's own among them."""
    return {
        "graceful_timeout": str(config.policy.stop_timeout_ms / 1000 + PLUGIN_GRACE_S),
        "priority": "2",
        **encode_settings(config),
    }


def plugin_argv(config: Config, python: str = sys.executable) -> list[str]:
    """The plugin's command line, as circus 0.19 (get_plugin_cmd) makes it from that section."""
    # As circus reads the section: with its name, twice.
    names = {"__name__": _NAME, "name": _NAME, "working_dir": WORKING_DIR}
    options = {**names, **plugin_options(config)}
    return [
        python,
        "-c",
        "from circus import plugins;plugins.main()",
        "--endpoint",
        config.runtime.circus_endpoint,
        "--pubsub",
        config.runtime.circus_pubsub_endpoint,
        "--config",
        ":::".join(f"{key}:{value}" for key, value in sorted(options.items())),
        "--log-level",
        LOG_LEVEL,
        PLUGIN,
    ]


def encode_settings(config: Config) -> dict[str, str]:
    """The options of [plugin:codexd] that hold ``config``."""
    from urllib.parse import quote

    return {
        _option(name): quote(text, safe="/~", errors="surrogateescape")
        for name, text in setting_texts(config).items()
        if text != ""
    }


def _unquoted(text: str) -> str:
    """What was percent-encoded; urllib's own would take every `codexd status` 2 ms to load."""
    data = text.encode("utf-8", "surrogateescape")
    plain = _ESCAPE.sub(lambda found: bytes.fromhex(found[1].decode("ascii")), data)
    return plain.decode("utf-8", "surrogateescape")


def _option(name: str) -> str:
    return BY_NAME[name].flag.removeprefix("--")
