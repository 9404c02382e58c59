"""The native codex behind npm's `codex`.

The npm package `@openai/codex` puts a small Node program on PATH, which finds the native binary
in a package of its own for each platform and starts it. That costs 0.8 to 1.5 s at each boot, and
where it cannot replace itself it stays in between: signals and deaths reach it, not the server. So
the binary is found here as that program finds it, and gets the environment that it would get.

What was looked at: the programs of 0.140 to 0.169. Where one is not as those are, or another
package manager than npm put it there, it is started as ever.
"""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from codexd.platform.limits import OUT_OF_FILES

_PACKAGE: Final = "@openai/codex"
_PLATFORMS: Final = {
    ("linux", "x86_64"): ("linux-x64", "x86_64-unknown-linux-musl"),
    ("linux", "aarch64"): ("linux-arm64", "aarch64-unknown-linux-musl"),
    ("darwin", "x86_64"): ("darwin-x64", "x86_64-apple-darwin"),
    ("darwin", "arm64"): ("darwin-arm64", "aarch64-apple-darwin"),
}
_ROOT: Final = "CODEX_MANAGED_PACKAGE_ROOT"
_MANAGED_BY_NPM: Final = "CODEX_MANAGED_BY_NPM"
_MANAGED_BY_OTHERS: Final = (
    "CODEX_MANAGED_BY_BUN",
    "CODEX_MANAGED_BY_PNPM",
    "CODEX_MANAGED_BY_VITE_PLUS",
)
_KNOWN: Final = {_ROOT, _MANAGED_BY_NPM, *_MANAGED_BY_OTHERS}
# The program has 10 KB.
_LONGEST: Final = 64 << 10


@dataclass(frozen=True, slots=True)
class Native:
    """The binary, and the environment with what the shim adds to it and takes from it."""

    path: str
    environ: dict[str, str]


def behind_shim(
    command: str,
    environ: Mapping[str, str],
    *,
    platform: str = sys.platform,
    machine: str | None = None,
) -> Native | None:
    """What the program at the absolute path ``command`` would start; None where that is unsure.

    Raises:
        OSError: nothing can be opened at the moment, so nobody can tell.
    """
    known = _PLATFORMS.get((platform, machine or os.uname().machine))
    script = os.path.realpath(command)
    if known is None or not script.endswith("/bin/codex.js"):
        return None
    root = Path(script).parent.parent
    text = _read_program(root, script)
    if text is None or not _is_npms(root, Path(command), environ):
        return None
    package, triple = known
    binary = _vendor(root, package, environ) / triple / "bin" / "codex"
    if not os.access(binary, os.X_OK):
        return None
    removed = {name for name in _KNOWN if f"delete env.{name}" in text}
    kept = {name: value for name, value in environ.items() if name not in removed}
    return Native(str(binary), {**kept, _ROOT: str(root), _MANAGED_BY_NPM: "1"})


def _read_program(root: Path, script: str) -> str | None:
    """The text of the shim, if it is one whose doings are known."""
    try:
        name = json.loads((root / "package.json").read_bytes()).get("name")
        with open(script, encoding="utf-8") as file:
            text = file.read(_LONGEST)
    except OSError as error:
        if error.errno in OUT_OF_FILES:
            raise
        return None
    except (ValueError, AttributeError):
        return None
    starts_as_known = "spawn(binaryPath, process.argv.slice(2)" in text and '"bin",' in text
    # Programs up to 0.135 put a directory into PATH, too.
    sets_as_known = _ROOT in text and "PATH:" not in text
    names = set(re.findall(r"\bCODEX_[A-Z_]+\b", text))
    is_known = name == _PACKAGE and starts_as_known and sets_as_known and names <= _KNOWN
    return text if is_known else None


def _is_npms(root: Path, command: Path, environ: Mapping[str, str]) -> bool:
    """Whether no other package manager has to do with it."""
    if "bun" in environ.get("npm_execpath", "") or ".bun/" in str(root):
        return False
    if "bun/" in environ.get("npm_config_user_agent", ""):
        return False
    above = {root, *root.parents, *command.parents}
    return not any(
        (path / "node_modules" / ".modules.yaml").exists()
        or (path.name == "packages" and (path / "@openai" / "codex.json").exists())
        for path in above
    )


def _vendor(root: Path, package: str, environ: Mapping[str, str]) -> Path:
    """Where the binaries are, as Node's `require.resolve` finds the package that has them."""
    for directory in _module_directories(root / "bin", environ):
        found = directory / f"{_PACKAGE}-{package}" / "package.json"
        if found.exists():
            return found.resolve().parent / "vendor"
    return root / "vendor"


def _module_directories(start: Path, environ: Mapping[str, str]) -> Iterator[Path]:
    for path in (start, *start.parents):
        if path.name != "node_modules":
            yield path / "node_modules"
    yield from map(Path, filter(None, environ.get("NODE_PATH", "").split(":")))
