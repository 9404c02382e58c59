"""A fresh checkout on a machine with nothing but Python. Needs a package index, as users do."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.support.checkout import ROOT, Checkout

SHIPPED = ("codexd", "templates", "ops", "pyproject.toml", "README.md")


@pytest.fixture
def fresh(tmp_path: Path) -> Path:
    """The files of a clone, in a place with a name that wants care."""
    place = tmp_path / "it's my repo"
    place.mkdir()
    for name in SHIPPED:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, place / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, place / name)
    return place


def environ(place: Path) -> dict[str, str]:
    """A login's environment: nothing of the one that runs this suite but the index and cache."""
    kept = {name: os.environ[name] for name in os.environ if name.startswith("PIP_")}
    system = f"{Path(sys.base_prefix, 'bin')}:/usr/bin:/bin"
    # The home is that of whoever runs this suite, for pip's cache; the list of daemons is not.
    # What pip installs is used once: to compile all of it takes seconds of both cores.
    ours = {"XDG_STATE_HOME": str(place.parent / "state"), "PIP_NO_COMPILE": "1"}
    return {**kept, **ours, "HOME": os.path.expanduser("~"), "PATH": system, "LANG": "C.UTF-8"}


@pytest.mark.long
@pytest.mark.timeout(300)
def test_two_first_runs_at_once_make_one_environment_that_works(fresh: Path) -> None:
    command = [str(fresh / "ops/codexd"), "config", "--json"]
    runs = [
        subprocess.Popen(
            command, cwd=fresh, env=environ(fresh), stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        for _ in range(2)
    ]
    try:
        outputs = [run.communicate(timeout=200) for run in runs]
    finally:
        for run in runs:
            run.kill()
    progress = "".join(err.decode() for _, err in outputs)
    assert [run.returncode for run in runs] == [0, 0], progress
    assert [json.loads(out)["paths"]["repoRoot"] for out, _ in outputs] == [str(fresh)] * 2
    assert progress.count("making .venv") == 1

    # What is there is used as it is: not a word, and no pip.
    (fresh / ".venv/bin/pip").write_text("")
    again = subprocess.run(command, cwd=fresh, env=environ(fresh), capture_output=True, timeout=60)
    assert (again.returncode, again.stderr) == (0, b"")
    assert_smoke_is_well(fresh)

    with (fresh / "pyproject.toml").open("a") as file:
        file.write("# changed\n")
    changed = subprocess.run(
        command, cwd=fresh, env=environ(fresh), capture_output=True, timeout=110
    )
    assert (changed.returncode, changed.stderr) == (0, "codexd: updating .venv …\n".encode())
    assert_wheel_has_templates(fresh)


def assert_smoke_is_well(fresh: Path) -> None:
    # A repository may have any file, and Python would take this one for its own.
    (fresh / "json.py").write_text("raise SystemExit('not the real one')\n")
    smoke = subprocess.run(
        [str(fresh / "ops/codexd"), "smoke"],
        cwd=fresh,
        env=environ(fresh),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert smoke.returncode == 0, smoke.stdout + smoke.stderr
    (fresh / "json.py").unlink()


def assert_wheel_has_templates(fresh: Path) -> None:
    pip = [str(fresh / ".venv/bin/python"), "-m", "pip", "--disable-pip-version-check"]
    subprocess.run(
        [*pip, "wheel", "--quiet", "--no-deps", "-w", "dist", "."],
        cwd=fresh,
        env=environ(fresh),
        check=True,
        timeout=110,
    )
    (wheel,) = (fresh / "dist").glob("codexd-*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    assert {f"codexd/templates/{path.name}" for path in (ROOT / "templates").iterdir()} <= names
    assert not {name for name in names if name.startswith(("tests/", "templates/"))}
    assert_a_wheel_installs_its_own_codexd(fresh, wheel)


def assert_a_wheel_installs_its_own_codexd(fresh: Path, wheel: Path) -> None:
    unpacked = fresh / "unpacked"
    zipfile.ZipFile(wheel).extractall(unpacked)
    # systemd takes no program whose path holds a quote.
    words = ["service", "install", "--dry-run", "--manager", "launchd", "--server-command", "true"]
    done = subprocess.run(
        [str(fresh / ".venv/bin/python"), "-m", "codexd", *words],
        cwd=fresh.parent,
        env={**environ(fresh), "PYTHONPATH": str(unpacked)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert f"<string>{fresh}/.venv/bin/codexd</string>" in done.stdout


def test_without_a_python_that_will_do_it_says_so(tmp_path: Path) -> None:
    checkout = Checkout(tmp_path / "repo", tmp_path / "home")
    (checkout.root / ".venv/.has-codex").unlink()
    for name in ("python", "python3", *(f"python3.{minor}" for minor in (11, 12, 13, 14))):
        checkout.fake(name, "exit 1")
    done = checkout.run("codexd", "config")
    assert done.returncode == 1
    assert done.stderr == "codexd: Python 3.11 or newer is needed, and none is on PATH\n"


def test_an_environment_whose_python_is_gone_is_made_anew(tmp_path: Path) -> None:
    checkout = Checkout(tmp_path / "repo", tmp_path / "home")
    python = checkout.root / ".venv/bin/python"
    working = python.read_text()
    # As Homebrew leaves it: the link is there, what it leads to is not.
    python.unlink()
    python.symlink_to("/opt/homebrew/opt/python@3.12/bin/python3.12-is-gone")
    (tmp_path / "working").write_text(working)
    make = f'rm "{python}"; cp "{tmp_path}/working" "{python}"; chmod 755 "{python}"'
    checkout.fake("python3", f'case "$1" in *make_venv.py) {make} ;; esac')
    done = checkout.run("codexd", "config")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("node_id: ")
    assert [call.split()[1] for call in checkout.taken_calls() if "make_venv" in call] != []

    # Where it cannot be made, there is nothing to go on with.
    python.unlink()
    checkout.fake("python3", 'case "$1" in *make_venv.py) exit 1 ;; esac')
    done = checkout.run("codexd", "config")
    assert done.returncode == 1
    assert "going on" not in done.stderr


def test_an_update_that_fails_does_not_keep_codexd_from_running(tmp_path: Path) -> None:
    checkout = Checkout(tmp_path / "repo", tmp_path / "home")
    (checkout.root / "pyproject.toml").open("a").write("\n")
    checkout.fake("python3", 'case "$1" in *make_venv.py) exit 1 ;; esac')
    done = checkout.run("codexd", "config")
    assert done.returncode == 0
    assert "going on with the environment as it was" in done.stderr
    assert done.stdout.startswith("node_id: ")


def test_a_link_to_the_script_will_do(tmp_path: Path) -> None:
    checkout = Checkout(tmp_path / "repo", tmp_path / "home")
    (checkout.root / "ops/link").symlink_to("codexd")
    (checkout.root / "ops/far").symlink_to(checkout.root / "ops/link")
    assert checkout.run("far", "config").stdout.startswith("node_id: ")
