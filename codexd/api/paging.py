"""Lists that come in pieces: `limit`, `after`, and `next`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Annotated, TypeVar

import msgspec

from codexd.api.table import invalid

Limit = Annotated[int, msgspec.Meta(ge=1, le=1000)]

_Item = TypeVar("_Item")


def page(
    items: Sequence[_Item], key: Callable[[_Item], str], limit: int, after: str | None
) -> tuple[Sequence[_Item], str | None]:
    """So many of ``items``, behind the one with the key ``after``, and what is the next `after`.

    Raises:
        Problem: there is no such item.
    """
    start = 0
    if after is not None:
        keys = [key(item) for item in items]
        if after not in keys:
            raise invalid("`after` is not in the list: begin anew without it.", "after")
        start = keys.index(after) + 1
    shown = items[start : start + limit]
    return shown, key(shown[-1]) if start + limit < len(items) else None
