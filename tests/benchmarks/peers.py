"""The supervisors that codexd is measured beside, from their own packages.

Each is put into a directory of this tool's, once; nothing is installed. What cannot be had here
is left out, with a word why.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Final

from codexd.platform.filelock import FileLock

_PATIENCE_S: Final = 240.0
_VERSION: Final = "version"
_PACKAGES: Final = ("supervisor", "circus==" + version("circus"), "uvloop")
# What Debian parts from a package, and one of these programs wants; the C library is there.
_LIBRARY: Final = re.compile(r"Depends: (lib(?:execline|s6|skarnet)\S*)")


class Unavailable(Exception):
    """The text says in a few words why."""


def default_directory() -> Path:
    """Where peers are kept from one run to the next."""
    cache = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(cache, "codexd-bench")


@dataclass
class Peers:
    """What there is in ``directory``; ``missing`` has a word for each that is not there."""

    directory: Path
    missing: dict[str, str] = field(default_factory=dict)

    @property
    def python(self) -> Path:
        """A Python that has supervisor, circus and uvloop, and nothing of codexd."""
        return self.directory / "python" / "bin" / "python"

    @property
    def pm2(self) -> Path:
        """pm2's command."""
        return self.directory / "pm2" / "node_modules" / ".bin" / "pm2"

    def debian(self, name: str) -> tuple[Path, dict[str, str]]:
        """Where the programs of a Debian package are, and the environment that they want."""
        root = self.directory / name
        programs = root / "usr" / "bin"
        libraries = [str(path.parent) for path in root.rglob("*.so.*")]
        env = {"PATH": f"{programs}:{os.environ.get('PATH', os.defpath)}"}
        if libraries:
            env["LD_LIBRARY_PATH"] = ":".join(sorted(set(libraries)))
        return programs, env

    def set_up(self, say: Callable[[str], None]) -> None:
        """Get what is not there yet."""
        self._clear_unfinished()
        for names, directory, get in (
            (("supervisord", "circus", "uvloop relay"), "python", self._get_python),
            (("pm2",), "pm2", self._get_pm2),
            (("runit",), "runit", lambda place: self._get_debian("runit", "runsvdir", place)),
            (("s6",), "s6", lambda place: self._get_debian("s6", "s6-supervise", place)),
        ):
            try:
                if not (self.directory / directory).exists():
                    say(f"getting {', '.join(names)} into {self.directory / directory}")
                    self._get(directory, get)
            except Unavailable as why:
                say(f"without {', '.join(names)}: {why}")
                self.missing.update(dict.fromkeys(names, str(why)))

    def versions(self) -> dict[str, str]:
        """Of what there is."""
        packages = self.python.parent.parent.glob("lib/python*/site-packages/*.dist-info")
        found = dict(path.name.removesuffix(".dist-info").split("-", 1) for path in packages)
        told: dict[str, str] = {}
        for name in ("supervisor", "uvloop"):
            if name in found:
                told[name] = found[name]
        with contextlib.suppress(OSError, ValueError):
            pm2 = json.loads((self.pm2.parent.parent / "pm2" / "package.json").read_text())
            told["pm2"] = pm2["version"]
        for name in ("runit", "s6"):
            with contextlib.suppress(OSError):
                told[name] = (self.directory / name / _VERSION).read_text()
        return told

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """One run at a time: two would measure each other.

        Raises:
            Unavailable: another one runs.
        """
        self.directory.mkdir(parents=True, exist_ok=True)
        lock = FileLock(str(self.directory / "lock"))
        if not lock.acquire(0):
            raise Unavailable(f"another run measures already ({self.directory / 'lock'} is held)")
        try:
            yield
        finally:
            lock.release()

    def _get(self, name: str, get: Callable[[Path], None]) -> None:
        # A Python cannot be moved, so what is not finished is known by what stands beside it.
        place, begun = self.directory / name, self.directory / f"{name}.begun"
        begun.touch()
        try:
            get(place)
        except BaseException:
            shutil.rmtree(place, ignore_errors=True)
            raise
        finally:
            begun.unlink(missing_ok=True)

    def _clear_unfinished(self) -> None:
        """Take away what an earlier run could not finish."""
        for begun in self.directory.glob("*.begun"):
            shutil.rmtree(begun.with_suffix(""), ignore_errors=True)
            begun.unlink()

    def _get_python(self, place: Path) -> None:
        _run(sys.executable, "-m", "venv", str(place), what="no virtual environment can be made")
        pip = [str(place / "bin" / "python"), "-m", "pip", "install", "-qq", "--no-input"]
        _run(*pip, "--disable-pip-version-check", *_PACKAGES, what="PyPI gave no packages")

    def _get_pm2(self, place: Path) -> None:
        if not shutil.which("npm"):
            raise Unavailable("npm is not here")
        place.mkdir()
        options = ["--no-audit", "--no-fund", "--ignore-scripts", "--loglevel=error"]
        _run(
            *("npm", "install", "--prefix", str(place), *options, "pm2@latest"),
            what="npm gave no package",
        )
        # Whatever it is asked, it starts its daemon; asked for this, it ends it, too.
        _run(str(self.pm2), "kill", what="it does not run", env=pm2_env(place / "home"))
        shutil.rmtree(place / "home", ignore_errors=True)

    def _get_debian(self, name: str, program: str, place: Path) -> None:
        if not (shutil.which("apt-get") and shutil.which("dpkg")):
            raise Unavailable("apt-get is not here")
        place.mkdir()
        for package in (name, *_libraries_of(name)):
            _run("apt-get", "download", "-qq", package, what="apt gave no package", cwd=place)
        for archive in place.glob("*.deb"):
            if archive.name.startswith(f"{name}_"):
                (place / _VERSION).write_text(archive.name.split("_")[1])
            _run("dpkg", "-x", str(archive), str(place), what="the package cannot be unpacked")
            archive.unlink()
        programs, env = self.debian(name)
        if not _starts(str(programs / program), env):
            raise Unavailable("it does not run from its package alone")


def pm2_env(home: Path) -> dict[str, str]:
    """What keeps a pm2 to itself."""
    return {"PM2_HOME": str(home), "PM2_DISABLE_VERSION_CHECK": "true"}


def _libraries_of(package: str) -> list[str]:
    told = subprocess.run(
        ["apt-cache", "depends", package], capture_output=True, text=True, check=False
    )
    if told.returncode != 0:
        raise Unavailable("apt offers no such package (apt-get update?)")
    return _LIBRARY.findall(told.stdout)


def _starts(program: str, env: dict[str, str]) -> bool:
    """Whether it gets as far as to complain of its arguments."""
    told = subprocess.run(
        [program, "--no-such"],
        env={**os.environ, **env},
        capture_output=True,
        timeout=10,
        check=False,
    )
    return told.returncode not in (126, 127) and b"shared libraries" not in told.stderr


def _run(
    *command: str, what: str, cwd: Path | None = None, env: dict[str, str] | None = None
) -> None:
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            cwd=cwd,
            env={**os.environ, **(env or {})},
            timeout=_PATIENCE_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Unavailable(f"{what} ({type(error).__name__})") from error
    if done.returncode != 0:
        last = done.stderr.decode(errors="replace").strip().splitlines()[-1:]
        raise Unavailable(": ".join([what, *last]))
