"""The rooms of the package, from the highest rank to the lowest.

A room imports those of lower ranks only; rooms of one rank do not import each other. Every module
of the package that is in no room is a value or a small tool: below all rooms.
"""

from __future__ import annotations

ROOMS: tuple[tuple[str, ...], ...] = (
    ("cli",),
    ("doctor",),
    ("service", "supervisor"),
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

# All that a room imports besides itself. Small tools of ours count as what they import.
ONLY: dict[str, tuple[str, ...]] = {
    # Messages in, messages out. What it waits for goes by the time that it is given.
    "hub": (
        # The time of day, on what is written down or sent.
        "codexd.clock",
        "codexd.session_id",
        "__future__",
        "abc",
        "bisect",
        "collections",
        "contextlib",
        "copy",
        "dataclasses",
        "enum",
        "functools",
        "hashlib",
        "heapq",
        "itertools",
        "json",
        "math",
        "msgspec",
        "operator",
        "re",
        "string",
        "types",
        "typing",
    ),
}
# What it does not call either.
BUILTIN_IO = ("__import__", "eval", "exec", "input", "open", "print")

# What a room never imports, besides the rooms it may not.
# Each can be used from any thread.
_NO_LOOP = ("asyncio", "concurrent", "selectors", "tornado", "websockets")
# What the plugin knows, it tells circusd; who runs the daemon asks nobody over HTTP.
_NO_HTTP = ("codexd.client.http", "http.client", "urllib.request", "tornado.httpclient")
BANNED: dict[str, tuple[str, ...]] = {
    "supervisor": _NO_HTTP,
    "circus_ext": _NO_HTTP,
    "keeper": _NO_HTTP,
    "records": _NO_LOOP,
    "store": _NO_LOOP,
    "eventlog": _NO_LOOP,
}

# What the plugin's own process does without.
NOT_IN_THE_PLUGIN = (
    "jinja2",
    "circus.arbiter",
    "codexd.rendering",
    "codexd.cli",
    "click",
    # Only where there is a TCP listener.
    "codexd.api.door",
    "codexd.tls",
    "codexd.keeper.network",
)
