"""The rooms of the package, from the highest rank to the lowest.

A room imports those of lower ranks only; rooms of one rank do not import each other. Every module
of the package that is in no room is a value or a small tool: below all rooms.
"""

from __future__ import annotations

ROOMS: tuple[tuple[str, ...], ...] = (
    ("cli",),
    ("supervisor",),
    ("circus_ext",),
    ("keeper",),
    ("api", "client"),
    ("records",),
    ("runtime",),
    ("child",),
    ("store", "eventlog", "daemons"),
    ("hub", "link"),
    ("wire", "rendering"),
    ("platform",),
)
