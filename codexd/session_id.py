"""Ids that codexd gives: of sessions, in the reference's form, and of approvals."""

from __future__ import annotations

import secrets
import string
import time

_DIGITS = string.digits + string.ascii_lowercase


def new_session_id() -> str:
    """``session-TIME-RANDOM``: milliseconds in base 36, and six random digits."""
    random = "".join(secrets.choice(_DIGITS) for _ in range(6))
    return f"session-{_base36(int(time.time() * 1000))}-{random}"


def new_approval_id() -> str:
    """``approval-RANDOM``: ten random digits."""
    return "approval-" + "".join(secrets.choice(_DIGITS) for _ in range(10))


def _base36(number: int) -> str:
    digits = ""
    while number:
        number, digit = divmod(number, 36)
        digits = _DIGITS[digit] + digits
    return digits or "0"
