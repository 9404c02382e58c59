"""Why a daemon could not be driven."""

from __future__ import annotations


class DaemonError(Exception):
    """The daemon did not answer, or not as hoped. The text is one line for the user."""
