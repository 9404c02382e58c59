"""A service file as codexd renders it: what its service is told."""

from __future__ import annotations

import plistlib
import re
from collections.abc import Mapping
from typing import Any, Final, Literal
from xml.parsers.expat import ExpatError

from codexd.config import Config, resolve
from codexd.service.hands import ServiceError
from codexd.settings import SettingError
from codexd.settings_file import read_settings_file

Kind = Literal["launchd", "systemd"]

_ESCAPES: Final = {"n": "\n", "t": "\t"}


class ServiceFile:
    """Environment, configuration, program and error log of the service in a file.

    Args:
        kind: Whose file it is.
        text: What is in it.
        home: The home of the user that the service runs for.

    Raises:
        ServiceError: it cannot be read, or tells of no configuration that could be.
    """

    def __init__(self, kind: Kind, text: str, home: str) -> None:
        self.error_log: str | None = None
        if kind == "launchd":
            plist = _read_plist(text)
            self.environ: Mapping[str, str] = plist["EnvironmentVariables"]
            self.error_log = plist["StandardErrorPath"]
            self.program: str | None = plist["ProgramArguments"][0]
        else:
            self.environ = {"HOME": home, **_unit_environment(text)}
            self.program = _unit_program(text)
        try:
            file = read_settings_file(None, self.environ)
            self.config: Config = resolve({}, self.environ, cwd="/", file=file)
        except SettingError as error:
            raise ServiceError(str(error)) from error


def _read_plist(text: str) -> dict[str, Any]:
    try:
        plist = plistlib.loads(text.encode("utf-8", "surrogateescape"))
        program = plist["ProgramArguments"][0]
        known = (plist["EnvironmentVariables"], plist["StandardErrorPath"], program)
    except (ValueError, ExpatError, KeyError, IndexError, TypeError, AttributeError) as error:
        raise ServiceError("The property list is none that codexd has written.") from error
    if not isinstance(known[0], dict) or not all(isinstance(word, str) for word in known[1:]):
        raise ServiceError("The property list is none that codexd has written.")
    return dict(plist)


def _unit_environment(text: str) -> dict[str, str]:
    """The variables of a unit that codexd has rendered: one a line, quoted."""
    found = {}
    for word in re.findall(r'^Environment="(.*)"$', text, re.MULTILINE):
        name, _, value = _plain(word).partition("=")
        found[name] = value
    return found


def _unit_program(text: str) -> str | None:
    # Its path holds no quote: the renderer refuses one.
    found = re.search(r'^ExecStart=:"([^"]*)"', text, re.MULTILINE)
    return _plain(found[1]) if found else None


def _plain(word: str) -> str:
    plain = re.sub(r"\\(.)", lambda match: _ESCAPES.get(match[1], match[1]), word)
    return plain.replace("%%", "%")
