"""What a check finds: well or not, in a sentence, and the command that mends it."""

from __future__ import annotations

from typing import Literal

import msgspec

Verdict = Literal["ok", "warn", "failed"]


class Finding(msgspec.Struct, frozen=True):
    """One answer of a check.

    Attributes:
        status: `failed` is wrong now; `warn` will be, or may be meant so.
        detail: A sentence.
        mend: What to do about it, as one types it where it is a command; None where it is well.
    """

    status: Verdict
    detail: str
    mend: str | None = None


def ok(detail: str) -> Finding:
    """All is well."""
    return Finding("ok", detail)


def warn(detail: str, mend: str) -> Finding:
    """Nothing fails by it now."""
    return Finding("warn", detail, mend)


def failed(detail: str, mend: str) -> Finding:
    """Something fails by it."""
    return Finding("failed", detail, mend)
