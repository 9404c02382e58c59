"""Values that break what is not escaped, and configurations made of them."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import strategies as st

from codexd.config import Config, resolve

FRAGMENTS = (
    "$(circus.env.home)",
    "((circus.env.home))",
    "$(circus.wid)",
    "$WID",
    "$HOME",
    "${HOME}",
    ":::",
    ":",
    "%",
    "%%",
    "%h",
    "%28",
    '"',
    "'",
    '""',
    "\\",
    "\\\\",
    "\\n",
    "#",
    ";",
    " ; ",
    " # ",
    "rem ",
    "[plugin:codexd]",
    "<key>",
    "</string>",
    "]]>",
    "&amp;",
    "--json",
    "=",
    "\t",
    "  ",
    "模型 名",
    "é",
    "\N{ROCKET}",
    "a",
    "Z9",
)
LINE_BREAKS = ("\n", "\r", "\r\n", "\n  x = 1", "\u2028", "\x85", "\n[circus]\n")
# What the operating system's undecodable bytes become in Python, and other controls.
ODD = ("\udc80", "\udcff", "\x01", "\x1b[0m", "\x7f", "\ufffe")


def texts(*more: str) -> st.SearchStrategy[str]:
    """Texts put together from fragments, with ``more`` fragments among them."""
    return st.lists(st.sampled_from((*FRAGMENTS, *more)), min_size=1, max_size=5).map("".join)


@st.composite
def configs(draw: st.DrawFn, *more: str) -> Config:
    """Configurations whose texts, paths and arguments are such texts."""
    text = texts(*more)
    flags: dict[str, Any] = {
        "repo_root": "/" + draw(text),
        "node_id": draw(text),
        "logs_dir": draw(text),
        "server_command": draw(text),
        "server_cwd": draw(text),
        "server_endpoint": f"unix:///{draw(text)}",
        "version": draw(text),
        "stop_timeout_ms": draw(st.integers(0, 10**9).map(str)),
        "mode": draw(st.sampled_from(("app-server", "exec"))),
        "server_strategy": draw(st.sampled_from(("spawn", "external"))),
    }
    arguments = json.dumps(draw(st.lists(text, max_size=3)))
    return resolve(flags, {"BAA_CODEXD_SERVER_ARGS": arguments}, cwd="/work dir")
