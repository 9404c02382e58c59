"""circus.ini for the daemon, rendered beside it: jinja2 is loaded by a process that ends."""

from __future__ import annotations

from collections.abc import Callable

from codexd.config import Config
from codexd.platform.aside import Aside


def begin_circus_ini(config: Config) -> Callable[[], bytes]:
    """Begin to render it; what is returned gives it, or raises as :func:`circus_ini`."""
    return Aside(lambda: circus_ini(config)).result


def circus_ini(config: Config) -> bytes:
    """The ini of this daemon.

    Raises:
        codexd.rendering.CannotRender: it cannot be written.
    """
    from codexd.rendering import render_circus_ini

    return render_circus_ini(config).encode()
