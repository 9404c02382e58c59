"""Make or update the virtual environment of a checkout: make_venv.py ROOT STAMP EXTRA...

Runs on a bare Python. ``STAMP`` is written to .venv/.has-EXTRA when all is well; the scripts
compare it to see whether there is anything to do.
"""

import fcntl
import shutil
import subprocess
import sys
from pathlib import Path


def main(root: Path, stamp: str, extras: list[str]) -> str | None:
    """Do it, one process at a time; returns what went wrong, in one line."""
    venv = root / ".venv"
    venv.mkdir(exist_ok=True)
    with open(venv / ".lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        marks = [venv / f".has-{extra}" for extra in extras]
        if all(read(mark) == stamp for mark in marks) and works(venv, root):
            return None
        trouble = create(venv, root) or install(venv, root, extras)
        if trouble is None:
            for mark in marks:
                mark.write_text(stamp)
        return trouble


def read(mark: Path) -> str | None:
    """What is in a stamp file, or None."""
    return mark.read_text() if mark.exists() else None


def create(venv: Path, root: Path) -> str | None:
    """Make the environment, unless there is one that works and is of this place."""
    if works(venv, root):
        print("codexd: updating .venv …", file=sys.stderr)
        return None
    print("codexd: making .venv, which takes about a minute …", file=sys.stderr)
    try:
        import ensurepip  # noqa: F401 - Debian leaves it out of its Python
        import venv as builder
    except ImportError:
        return "this Python cannot make virtual environments: install python3-venv"
    try:
        clear(venv)
        builder.create(venv, with_pip=True, symlinks=True)
    except (OSError, subprocess.CalledProcessError) as error:
        return f"the virtual environment cannot be made: {error}"
    return None


def clear(venv: Path) -> None:
    """Empty the directory, but for the lock."""
    for entry in venv.iterdir():
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry)
        elif entry.name != ".lock":
            entry.unlink()


def works(venv: Path, root: Path) -> bool:
    """Whether the environment can run and is where it was made."""
    marks = [read(mark) for mark in venv.glob(".has-*")]
    is_ours = any(mark is not None and mark.startswith(f"{root} ") for mark in marks)
    return is_ours and run([str(venv / "bin/python"), "-m", "pip", "--version"], root) == 0


def install(venv: Path, root: Path, extras: list[str]) -> str | None:
    """Install this checkout with ``extras``, editable."""
    pip = [str(venv / "bin/python"), "-m", "pip", "install", "-qq"]
    options = ["--disable-pip-version-check", "--no-input", "--editable"]
    if run([*pip, *options, f".[{','.join(extras)}]"], root, show=True) != 0:
        return "the packages cannot be installed; pip says why above"
    return None


def run(command: list[str], root: Path, *, show: bool = False) -> int:
    """The exit code of ``command``, whose output goes to stderr or nowhere."""
    output = sys.stderr if show else subprocess.DEVNULL
    try:
        return subprocess.run(
            command, cwd=root, stdin=subprocess.DEVNULL, stdout=output, stderr=output
        ).returncode
    except OSError:
        return 127


if __name__ == "__main__":
    problem = main(Path(sys.argv[1]), sys.argv[2], sys.argv[3:])
    if problem is not None:
        sys.exit(f"codexd: {problem}")
