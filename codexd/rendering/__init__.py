"""What codexd is for other supervisors: circus.ini, a launchd plist, a systemd unit.

One module and one template for each; every value is escaped whatever it holds.
"""

from codexd.rendering.circus_ini import render_circus_ini
from codexd.rendering.environment import kept_variables, secret_names
from codexd.rendering.launchd import DEFAULT_LABEL, ProcessType, render_plist
from codexd.rendering.service import default_program
from codexd.rendering.systemd import render_systemd
from codexd.rendering.templates import CannotRender

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
