"""Requests that pass through the hub, there and back, without a look at what they say.

They are the most of all, and the quickest for it. A request that the hub is to do something about
stands in one of its tables, or here.
"""

from __future__ import annotations

from typing import Final

from codexd.hub import experimental_tables, gateway_login, methods

# Those of which other modules speak by name.
_BY_NAME: Final = frozenset(
    {
        "account/login/cancel",
        "initialize",
        "thread/settings/update",
        "thread/unsubscribe",
        gateway_login.CANCEL,
        gateway_login.LOGIN,
    }
)
# All others pass, also those of a newer server that nobody here has heard of.
LOOKED_AT: Final[frozenset[str | None]] = frozenset(
    {
        *_BY_NAME,
        *methods.ANSWER_MATTERS,
        *methods.HANDLES,
        *methods.KEPT,
        *methods.NAMES_REQUEST,
        *methods.OPENING,
        *methods.TAKES_PROFILE,
        *experimental_tables.FIELDS,
        *experimental_tables.METHODS,
    }
)
