"""circus.ini for the daemon, rendered beside it: jinja2 is loaded by a process that ends."""

from __future__ import annotations

from codexd.config import Config
from codexd.platform.aside import Aside


def begin_circus_ini(config: Config) -> Aside:
    """Begin to render it; the result is that of :func:`circus_ini`, or its error."""
    return Aside(lambda: circus_ini(config))


def circus_ini(config: Config) -> bytes:
    """The ini of this daemon.

    Raises:
        codexd.rendering.CannotRender: it cannot be written.
    """
    from codexd.rendering import render_circus_ini

    return render_circus_ini(config).encode()
