"""The plugin's process that loads while circus does: who gets it, and that it never stays."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from codexd.circus_ext import early
from tests.support.waiting import eventually

# As the plugin does (CodexdPlugin.handle_init); its directory is not this one.
CODE = """
import os, sys
from codexd.circus_ext import early
with open(sys.argv[1] + ".new", "w") as file:
    file.write(f"{early.is_early()} {early.wait()} {early.is_early()} {os.readlink('/dev/fd/0')}")
os.rename(sys.argv[1] + ".new", sys.argv[1])
"""


@pytest.fixture(autouse=True)
def executed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not forked from the tests' own process: tests/unit/test_platform_forked.py has that."""
    monkeypatch.setattr(early, "can_fork", lambda: False)


@pytest.fixture
def said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the process says how it was told to begin."""
    monkeypatch.setattr(sys, "path", [os.getcwd(), *sys.path])
    return tmp_path / "said"


@pytest.fixture
def argv(said: Path) -> Iterator[list[str]]:
    yield [sys.executable, "-c", CODE, str(said)]
    early.give_up()


def environment() -> dict[str, str]:
    return early.plugin_environment(os.environ)


def begun(argv: list[str]) -> psutil.Process:
    before = set(psutil.Process().children())
    early.begin(argv)
    (process,) = set(psutil.Process().children()) - before
    assert isinstance(process, psutil.Process)
    return process


def test_the_one_who_wants_just_that_process_gets_it(argv: list[str], said: Path) -> None:
    process = begun(argv)
    taken = early.take(argv, environment(), "/")
    assert taken is not None
    assert taken.pid == process.pid
    assert taken.wait(30) == 0
    assert said.read_text() == f"True True False {os.devnull}"
    # The next one is started as any other.
    assert early.take(argv, environment(), "/") is None


@pytest.mark.parametrize("changed", ["argv", "environment", "directory"])
def test_another_process_than_is_wanted_is_not_used(
    argv: list[str], said: Path, changed: str
) -> None:
    process = begun(argv)
    wanted = [*argv, "more"] if changed == "argv" else argv
    env = {**environment(), **({"MORE": "1"} if changed == "environment" else {})}
    directory = "/tmp" if changed == "directory" else "/"
    assert early.take(wanted, env, directory) is None
    assert not process.is_running()
    assert not said.exists()


def test_one_that_died_meanwhile_is_not_used(argv: list[str]) -> None:
    process = begun(argv)
    process.kill()
    eventually(lambda: process.status() == psutil.STATUS_ZOMBIE, what="its end")
    assert early.take(argv, environment(), "/") is None
    assert not process.is_running()


def test_one_that_nobody_takes_is_ended(argv: list[str], said: Path) -> None:
    process = begun(argv)
    early.give_up()
    assert not process.is_running()
    assert not said.exists()
    early.give_up()


def test_one_whose_daemon_dies_does_not_begin(argv: list[str], said: Path) -> None:
    code = f"import sys\nfrom codexd.circus_ext import early\nearly.begin({argv!r})\n"
    with psutil.Popen([sys.executable, "-c", code]) as daemon:
        assert daemon.wait(30) == 0
    eventually(said.exists, what="its word")
    assert said.read_text() == f"True False False {os.devnull}"


FORKED = """
import json, os, sys
from codexd.circus_ext import early
from codexd.platform import forked
argv = [sys.executable, "-c", sys.argv[1], sys.argv[2]]
# What a library loads may start a thread some day: then this is for nothing.
import codexd.circus_ext.plugin
assert forked.can_fork()
early.begin(argv)
process = early.take(argv, early.plugin_environment(os.environ), "/")
assert isinstance(process, forked.Forked)
assert process.wait(30) == 0
early.begin(argv)
pid = early._early._process.pid
early.give_up()
try:
    os.kill(pid, 0)
except ProcessLookupError:
    print("gone")
"""


@pytest.mark.skipif(sys.platform != "linux", reason="nothing is forked elsewhere")
def test_where_it_can_be_it_is_forked_with_what_both_need(said: Path) -> None:
    env = {**os.environ, "PYTHONPATH": os.getcwd()}
    command = [sys.executable, "-c", FORKED, CODE, str(said)]
    run = subprocess.run(command, capture_output=True, text=True, env=env, timeout=60, check=True)
    assert run.stdout == "gone\n"
    assert said.read_text() == f"True True False {os.devnull}"


def test_an_interpreter_that_is_not_there_is_for_circus_to_tell_of() -> None:
    early.begin(["/nowhere/python", "-c", ""])
    assert early.take(["/nowhere/python", "-c", ""], environment(), "/") is None


def test_what_a_service_manager_tells_the_daemon_is_not_for_the_plugin() -> None:
    told = {"NOTIFY_SOCKET": "/x", "WATCHDOG_USEC": "1", "WATCHDOG_PID": "2", "HOME": "/h"}
    assert set(early.plugin_environment(told)) == {"HOME", "PYTHONPATH"}


def test_a_module_that_is_postponed_loads_when_it_is_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from codexd.postpone import postpone

    text = "import sys\nsys.late_one_is_loaded = True\nword = 'x'\nkind = str\n"
    (tmp_path / "late_one.py").write_text(text)
    monkeypatch.syspath_prepend(str(tmp_path))
    postpone("late_one", kind=int)
    import late_one  # type: ignore[import-not-found]

    try:
        assert late_one.kind is int
        assert not hasattr(sys, "late_one_is_loaded")
        assert late_one.word == "x"
        assert hasattr(sys, "late_one_is_loaded")
        assert late_one.kind.__name__ == "str"
    finally:
        del sys.modules["late_one"]
        with contextlib.suppress(AttributeError):
            del sys.late_one_is_loaded  # type: ignore[attr-defined]


def test_a_module_that_is_not_there_stays_so() -> None:
    from codexd.postpone import postpone

    postpone("codexd_has_no_such_module")
    assert "codexd_has_no_such_module" not in sys.modules
