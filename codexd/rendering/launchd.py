"""The launchd property list of a user agent (launchd.plist(5))."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from html import escape
from typing import Literal

from codexd.config import Config
from codexd.rendering.errors import CannotRender
from codexd.rendering.service import (
    default_program,
    search_path,
    setting_variables,
    stop_timeout_s,
)
from codexd.rendering.templates import describe_character, render

DEFAULT_LABEL = "so.makefile.baa-codexd"

ProcessType = Literal["Background", "Standard", "Adaptive", "Interactive"]
# What every macOS lets a process have (OPEN_MAX); it refuses what is above its own limit.
_MOST_FILES = 10_240

_SYSTEM_PATH = (
    "/opt/homebrew/bin",
    "/usr/local/bin",
    "/usr/bin",
    "/bin",
    "/usr/sbin",
    "/sbin",
)
# XML 1.0, production 2: what no document may hold, not even as a reference.
_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def render_plist(
    config: Config,
    *,
    home: str,
    label: str = DEFAULT_LABEL,
    program: Sequence[str] | None = None,
    kept: Mapping[str, str] | None = None,
    umask: int | None = None,
    process_type: ProcessType = "Background",
) -> str:
    """The property list of the service ``label`` for the user whose home is ``home``.

    ``program`` is the command to which `start` is added; by default the codexd that runs now.
    ``kept`` is more of its environment: see :mod:`.environment`. ``umask`` is that of the files
    which the server and its commands make; by default launchd's.

    Raises:
        CannotRender: a value that XML cannot hold, or a label that is no file name.
    """
    if not label.strip() or "/" in label:
        raise CannotRender(f'The label "{label}" cannot be used: it names a file (--label).')
    environment = {
        "PATH": search_path(home, *_SYSTEM_PATH),
        "HOME": home,
        "LANG": "en_US.UTF-8",
        "LC_ALL": "en_US.UTF-8",
        **(kept or {}),
        **setting_variables(config),
    }
    words = [*(default_program() if program is None else program), "start"]
    log = f"{config.paths.logs_root_dir}/launchd/{label}"
    return render(
        "launchd.plist.j2",
        label=_xml(label, "--label"),
        repo_root=_xml(config.paths.repo_root, "--repo-root"),
        environment={name: _xml(value, name) for name, value in environment.items()},
        program=[_xml(word, "--program") for word in words],
        process_type=process_type,
        umask=umask,
        open_files=min(config.policy.child_nofile, _MOST_FILES),
        exit_timeout_s=stop_timeout_s(config),
        out_log=_xml(f"{log}.out.log", "--logs-dir"),
        error_log=_xml(f"{log}.err.log", "--logs-dir"),
    )


def _xml(value: str, source: str) -> str:
    unfit = _NOT_XML.search(value)
    if unfit is not None:
        what = describe_character(unfit[0])
        raise CannotRender(f"{source} cannot be written into a property list: it holds {what}.")
    # A parser would read a bare carriage return as a newline.
    return escape(value, quote=False).replace("\r", "&#13;")
