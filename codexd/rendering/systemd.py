"""The systemd unit of a user service (systemd.service(5), systemd.exec(5))."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence

from codexd.config import Config
from codexd.rendering.errors import CannotRender
from codexd.rendering.service import (
    default_program,
    search_path,
    setting_variables,
    stop_timeout_s,
)
from codexd.rendering.templates import describe_character, render

_SYSTEM_PATH = ("/usr/local/bin", "/usr/bin", "/bin", "/usr/sbin", "/sbin")

# What a start takes beyond its server's time to get ready: ending what an earlier daemon left.
_START_MARGIN_S = 30

# systemd ignores a line that is not UTF-8, a variable that holds a control character other
# than tab and newline, and a program whose path holds a quote or a backslash.
_NOT_VALUE = re.compile("[\x00-\x08\x0b-\x1f\x7f\ud800-\udfff]")
_NOT_PATH = re.compile("[\x00-\x1f\x7f\ud800-\udfff]")
_NOT_PROGRAM = re.compile("[\x00-\x1f\x7f\ud800-\udfff\"'\\\\]")


def render_systemd(
    config: Config,
    *,
    home: str,
    program: Sequence[str] | None = None,
    kept: Mapping[str, str] | None = None,
    umask: int | None = None,
) -> str:
    """The unit for the user whose home is ``home``.

    ``program`` is the command to which `start` is added; by default the codexd that runs now.
    ``kept`` is more of its environment: see :mod:`.environment`. ``umask`` is that of the files
    which the server and its commands make; by default systemd's.

    Raises:
        CannotRender: a value that a unit cannot hold.
    """
    environment = {
        "PATH": search_path(home, *_SYSTEM_PATH),
        **(kept or {}),
        **setting_variables(config),
    }
    words = [*(default_program() if program is None else program), "start"]
    _check(words[0], "--program", _NOT_PROGRAM)
    return render(
        "systemd.service.j2",
        working_directory=_directory(config.paths.repo_root),
        environment=[_word(f"{name}={value}", name) for name, value in environment.items()],
        program=" ".join(_word(word, "--program") for word in words),
        start_timeout_s=math.ceil(config.policy.ready_timeout_ms / 1000) + _START_MARGIN_S,
        stop_timeout_s=stop_timeout_s(config),
        child_nofile=config.policy.child_nofile,
        umask=umask,
    )


def _word(text: str, source: str) -> str:
    """One quoted word. Variables are not expanded where these are used, specifiers are."""
    _check(text, source, _NOT_VALUE)
    escaped = text.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
    return '"{}"'.format(escaped.replace("\t", r"\t").replace("%", "%%"))


def _directory(path: str) -> str:
    """The value of WorkingDirectory=, which knows specifiers but no quotes."""
    _check(path, "--repo-root", _NOT_PATH)
    # systemd drops the white space that ends a line, and joins the next after a backslash.
    end = "/" if path != path.rstrip() or path.endswith("\\") else ""
    return path.replace("%", "%%") + end


def _check(value: str, source: str, unfit: re.Pattern[str]) -> None:
    found = unfit.search(value)
    if found is not None:
        what = describe_character(found[0]) if not found[0].isprintable() else found[0]
        raise CannotRender(f"{source} cannot be written into a systemd unit: it holds {what}.")
