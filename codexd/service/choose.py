"""Which service manager, and which codexd it is to run."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping

import codexd
from codexd.rendering import DEFAULT_LABEL, default_program
from codexd.service.file import Kind
from codexd.service.launchd import Launchd
from codexd.service.manager import Manager
from codexd.service.systemd import Systemd


def default_kind() -> Kind:
    """The service manager of this system."""
    return "launchd" if sys.platform == "darwin" else "systemd"


def make_manager(
    kind: Kind, home: str, environ: Mapping[str, str], label: str = DEFAULT_LABEL
) -> Manager:
    """The manager of that kind, for the service of the user whose home is ``home``."""
    return Launchd(home, label) if kind == "launchd" else Systemd(home, environ)


def installed_program() -> list[str]:
    """The command of the codexd that runs now, as a service is to run it.

    In a checkout that is its own script, which makes .venv anew where its Python is taken away.
    """
    root = os.path.dirname(os.path.dirname(os.path.abspath(codexd.__file__)))
    script = os.path.join(root, "ops/codexd")
    is_checkout = os.access(script, os.X_OK) and sys.prefix == os.path.join(root, ".venv")
    return [script] if is_checkout else default_program()
