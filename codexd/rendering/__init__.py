"""What codexd is for other supervisors: circus.ini, a launchd plist, a systemd unit.

One module and one template for each; every value is escaped whatever it holds. Each is loaded when
it is wanted: a daemon renders circus.ini only, and before it starts anything.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from codexd.rendering.circus_ini import render_circus_ini
    from codexd.rendering.environment import kept_variables, secret_names
    from codexd.rendering.errors import CannotRender
    from codexd.rendering.launchd import DEFAULT_LABEL, ProcessType, render_plist
    from codexd.rendering.service import default_program
    from codexd.rendering.systemd import render_systemd

__all__ = [
    "DEFAULT_LABEL",
    "CannotRender",
    "ProcessType",
    "default_program",
    "kept_variables",
    "render_circus_ini",
    "render_plist",
    "render_systemd",
    "secret_names",
]

_MODULES = {
    "DEFAULT_LABEL": "launchd",
    "CannotRender": "errors",
    "ProcessType": "launchd",
    "default_program": "service",
    "kept_variables": "environment",
    "render_circus_ini": "circus_ini",
    "render_plist": "launchd",
    "render_systemd": "systemd",
    "secret_names": "environment",
}


def __getattr__(name: str) -> Any:
    module = _MODULES.get(name)
    if module is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{module}"), name)
