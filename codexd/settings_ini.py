"""Our settings in circus.ini, and read back from what circus hands on.

Circus escapes nothing. A setting of [plugin:codexd] goes through its ini parser (comments,
continued lines), through the replacement of ``$(circus.x)`` and ``((circus.x))``, and, joined
to one word by ``:`` and ``:::``, through ``shlex.split``. So a value is percent-encoded until
no character is left that means something to any of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import quote, unquote

from codexd.config import Config, resolve, setting_texts
from codexd.settings import BY_NAME, SETTINGS

# Seconds that the plugin has beyond the child: it lets the child end and writes down how it did.
PLUGIN_GRACE_S = 10


def read_plugin_settings(options: Mapping[str, str]) -> Config:
    """The configuration that :func:`encode_settings` wrote; circus's own options are ignored.

    Raises:
        codexd.settings.SettingError: a setting that was edited into something unusable.
    """
    texts = {
        setting.env[0]: unquote(options[_option(setting.name)], errors="surrogateescape")
        for setting in SETTINGS
        if _option(setting.name) in options
    }
    return resolve({}, texts, cwd="/")


def encode_settings(config: Config) -> dict[str, str]:
    """The options of [plugin:codexd] that hold ``config``."""
    return {
        _option(name): quote(text, safe="/~", errors="surrogateescape")
        for name, text in setting_texts(config).items()
        if text != ""
    }


def _option(name: str) -> str:
    return BY_NAME[name].flag.removeprefix("--")
