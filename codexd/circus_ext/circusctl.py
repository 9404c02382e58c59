"""circusctl, which says in one line what it cannot use, and not in a traceback."""

from __future__ import annotations

import sys
from typing import Any

from circus import circusctl
from circus.exc import ArgumentError, CallError, MessageError


class _Controller(circusctl.ControllerApp):  # type: ignore[misc]
    def dispatch(self, args: Any) -> int:
        """Carry one command out; its exit code."""
        try:
            code: int = super().dispatch(args)
        except (ArgumentError, CallError, MessageError, ValueError, OverflowError) as error:
            reason = str(error) or "see codexd ctl COMMAND --help"
            print(f"codexd: {args.command} cannot be sent: {reason}", file=sys.stderr)
            return 2
        return code


def main() -> None:
    """Be circusctl."""
    circusctl.ControllerApp = _Controller
    circusctl.main()
