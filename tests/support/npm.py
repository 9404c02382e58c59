"""npm's package of codex in small: a shim that must not run, and a binary of our own behind it."""

from __future__ import annotations

import json
from pathlib import Path

from codexd.child.npm_shim import _PLATFORMS

# The parts of the real program (0.163) that tell what it does; run, it fails.
SHIM = """#!/bin/sh
echo "the shim ran" >&2; exit 9
const codexExecutable = path.join(vendorRoot, targetTriple,
    "bin",
    "codex");
const env = {
  ...process.env,
  CODEX_MANAGED_PACKAGE_ROOT: codexPackageRoot,
};
delete env.CODEX_MANAGED_BY_NPM;
delete env.CODEX_MANAGED_BY_BUN;
const child = spawn(binaryPath, process.argv.slice(2), {
"""


class NpmPackage:
    """`npm install --prefix ROOT -g @openai/codex`."""

    def __init__(self, root: Path, binary: str, *, platform: str, machine: str) -> None:
        package, triple = _PLATFORMS[platform, machine]
        self.modules = root / "lib" / "node_modules"
        self.package = self.modules / "@openai" / "codex"
        self.shim = self.package / "bin" / "codex.js"
        self.write(self.shim, SHIM)
        (self.package / "package.json").write_text(json.dumps({"name": "@openai/codex"}))
        native = self.package / "node_modules" / "@openai" / f"codex-{package}"
        self.binary = native / "vendor" / triple / "bin" / "codex"
        self.write(self.binary, binary)
        (native / "package.json").write_text("{}")
        self.command = root / "bin" / "codex"
        self.command.parent.mkdir()
        self.command.symlink_to(self.shim)

    def write(self, path: Path, text: str) -> None:
        """Make a program."""
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        path.chmod(0o755)
