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

# Which rooms may import a package of others, and nobody else.
HOMES: dict[str, tuple[str, ...]] = {
    "circus": ("circus_ext", "client"),
    "zmq": ("circus_ext", "client"),
}

# What a room never imports, besides the rooms it may not: rooms of ours, packages, modules.
BANNED: dict[str, tuple[str, ...]] = {
    # Messages in, messages out; the time is an argument.
    "hub": (
        "codexd.link",
        "asyncio",
        "concurrent",
        "io",
        "multiprocessing",
        "os",
        "pathlib",
        "selectors",
        "shutil",
        "signal",
        "socket",
        "ssl",
        "subprocess",
        "tempfile",
        "threading",
        "time",
        "tornado",
        "websockets",
    ),
}

# What the plugin's own process does without.
NOT_IN_THE_PLUGIN = ("jinja2", "circus.arbiter", "codexd.rendering", "codexd.cli", "click")
