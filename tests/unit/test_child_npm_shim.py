"""The native codex behind npm's program, and when it is left alone."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from codexd.child.npm_shim import Native, behind_shim
from tests.support.npm import SHIM, NpmPackage

LINUX = {"platform": "linux", "machine": "x86_64"}


@pytest.fixture
def npm(tmp_path: Path) -> NpmPackage:
    return NpmPackage(tmp_path / "npm", "#!/bin/sh\n", **LINUX)


def find(npm: NpmPackage, environ: dict[str, str] | None = None) -> Native | None:
    return behind_shim(str(npm.command), environ or {}, **LINUX)


def test_the_binary_gets_what_the_shim_would_give_it(npm: NpmPackage) -> None:
    found = find(npm, {"PATH": "/bin", "CODEX_MANAGED_BY_BUN": "1", "CODEX_HOME": "/home"})
    assert found == Native(
        str(npm.binary),
        {
            "PATH": "/bin",
            "CODEX_HOME": "/home",
            "CODEX_MANAGED_PACKAGE_ROOT": str(npm.package),
            "CODEX_MANAGED_BY_NPM": "1",
        },
    )


def test_the_package_of_the_platform_may_lie_beside_it(npm: NpmPackage) -> None:
    inner = npm.package / "node_modules" / "@openai"
    (native,) = inner.iterdir()
    shutil.move(native, npm.modules / "@openai" / native.name)
    found = find(npm)
    assert found is not None
    assert found.path.startswith(str(npm.modules / "@openai" / native.name))


def test_a_binary_in_the_package_itself_serves(npm: NpmPackage) -> None:
    shutil.move(npm.binary.parents[2], npm.package / "vendor")
    shutil.rmtree(npm.package / "node_modules")
    found = find(npm)
    assert found is not None
    assert found.path.startswith(str(npm.package / "vendor"))


def another_program(npm: NpmPackage) -> None:
    npm.write(npm.shim, SHIM.replace("spawn(", "exec("))


def one_that_sets_more(npm: NpmPackage) -> None:
    npm.write(npm.shim, SHIM + "env.CODEX_SOMETHING_NEW = 1\n")


def one_that_changes_path(npm: NpmPackage) -> None:
    npm.write(npm.shim, SHIM + "const env = { ...process.env, PATH: updatedPath };\n")


def another_package(npm: NpmPackage) -> None:
    (npm.package / "package.json").write_text('{"name": "codex"}')


def torn_package(npm: NpmPackage) -> None:
    (npm.package / "package.json").write_text('["name"')


def odd_package(npm: NpmPackage) -> None:
    (npm.package / "package.json").write_text("[]")


def no_text(npm: NpmPackage) -> None:
    npm.shim.write_bytes(b"\xff\xfe")


def no_binary(npm: NpmPackage) -> None:
    npm.binary.unlink()


def not_executable(npm: NpmPackage) -> None:
    npm.binary.chmod(0o644)


def by_pnpm(npm: NpmPackage) -> None:
    (npm.modules / ".modules.yaml").touch()


def by_vite_plus(npm: NpmPackage) -> None:
    npm.write(npm.command.parents[2] / "packages" / "@openai" / "codex.json", "{}")
    moved = npm.command.parents[2] / "packages" / "npm"
    npm.command.parents[1].rename(moved)
    npm.command = moved / "bin" / "codex"


def no_shim(npm: NpmPackage) -> None:
    npm.command.unlink()
    npm.write(npm.command, "#!/bin/sh\n")


@pytest.mark.parametrize(
    "change",
    [
        another_program,
        one_that_sets_more,
        one_that_changes_path,
        another_package,
        torn_package,
        odd_package,
        no_text,
        no_binary,
        not_executable,
        by_pnpm,
        by_vite_plus,
        no_shim,
    ],
)
def test_what_is_not_known_is_left_alone(
    npm: NpmPackage, change: Callable[[NpmPackage], None]
) -> None:
    assert find(npm) is not None
    change(npm)
    if change is not_executable and os.access(npm.binary, os.X_OK):
        pytest.skip("this user may execute everything")
    assert find(npm) is None


@pytest.mark.parametrize(
    "environ",
    [{"npm_execpath": "/opt/bun/bin/bun"}, {"npm_config_user_agent": "bun/1.2 npm/? node/v22"}],
)
def test_another_manager_is_left_alone(npm: NpmPackage, environ: dict[str, str]) -> None:
    assert find(npm, environ) is None


def test_a_platform_without_a_package_is_left_alone(npm: NpmPackage) -> None:
    for platform, machine in (("linux", "riscv64"), ("freebsd14", "x86_64"), ("darwin", "arm64")):
        assert behind_shim(str(npm.command), {}, platform=platform, machine=machine) is None


def test_where_nothing_can_be_opened_it_is_not_started_as_ever(
    npm: NpmPackage, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: Path) -> bytes:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    with monkeypatch.context() as patch:
        patch.setattr(Path, "read_bytes", refuse)
        with pytest.raises(OSError, match="Too many open files"):
            find(npm)
