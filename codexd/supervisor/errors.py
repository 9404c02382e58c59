"""Why a daemon does not run."""

from __future__ import annotations


class CannotStart(Exception):
    """The daemon cannot start. The text is one line that says what to do.

    ``is_configuration``: trying again without changing anything cannot help.
    """

    def __init__(self, text: str, *, is_configuration: bool = False) -> None:
        super().__init__(text)
        self.is_configuration = is_configuration
