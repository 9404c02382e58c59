"""Arguments, paths and environment reach the child byte for byte, whatever they hold.

Through the rendered ini, circus's own parser, its Watcher turned into ours, and a real spawn of a
small program that notes down what it got.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from circus.config import get_config
from circus.watcher import Watcher
from hypothesis import given, settings
from hypothesis import strategies as st
from tornado.ioloop import IOLoop

from codexd.child.told import Patience
from codexd.circus_ext import hooks
from codexd.circus_ext.arbiter import read_settings
from codexd.circus_ext.channel import Channel
from codexd.config import resolve
from codexd.rendering import render_circus_ini
from codexd.runtime import make_directories
from tests.conftest import MakeBox
from tests.support.nasty import LINE_BREAKS, ODD, texts
from tests.support.waiting import eventually

# It lies beside what it notes. Bytes that are no text become lone surrogates and back again.
DUMPER = f"""#!{sys.executable} -IS
import json, os, sys, time
place = os.path.dirname(os.path.abspath(__file__))
environ = {{os.fsdecode(name): os.fsdecode(value) for name, value in os.environb.items()}}
got = {{"argv": sys.argv[1:], "cwd": os.getcwd(), "environ": environ, "pid": os.getpid()}}
with open(os.path.join(place, "got.tmp"), "w") as file:
    json.dump(got, file)
os.rename(os.path.join(place, "got.tmp"), os.path.join(place, "got.json"))
time.sleep(600)
"""

text = texts(*LINE_BREAKS, *ODD)
# A name of one directory, no longer than a file system takes. Settings lose white space at their
# ends, as in the reference; in the middle it stays.
name = text.map(lambda value: value.replace("/", "_").encode("utf-8", "surrogateescape")[:120])
names = name.map(lambda data: f"d{data.decode('utf-8', 'surrogateescape')}d")


def install(place: Path) -> Path:
    """Put the dumper into a new directory."""
    place.mkdir(parents=True)
    program = place / "dumper"
    program.write_text(DUMPER)
    program.chmod(0o700)
    return program


def read(place: Path) -> dict[str, Any]:
    """What the dumper got, once it has it."""
    noted = place / "got.json"
    eventually(noted.exists, what="the program's notes")
    got: dict[str, Any] = json.loads(noted.read_text("ascii"))
    noted.unlink()
    return got


@contextlib.contextmanager
def spawned(ini_text: str, root: Path) -> Iterator[Watcher]:
    """Circus's watcher as circusd would have it, with its child; ends the child."""
    ini = root / "circus.ini"
    ini.write_bytes(ini_text.encode("utf-8", "surrogateescape"))
    (section,) = get_config(str(ini))["watchers"]
    watcher = Watcher.load_from_config(section)
    watcher.loop = IOLoop()
    config = read_settings(str(ini))
    assert config is not None
    make_directories(config.paths, config.runtime)
    try:
        with mock.patch.object(watcher, "notify_event"):
            channel = Channel(mock.Mock(_stopping=False), Patience(15.0, 60.0), {})
            hooks.adopt(watcher, config, channel)
            watcher.hooks.clear()
            watcher.loop.run_sync(watcher._start)
        yield watcher
    finally:
        for process in watcher.processes.values():
            process._worker.kill()
            process._worker.wait()
        watcher.loop.close()
        shutil.rmtree(config.runtime.runtime_dir, ignore_errors=True)


@pytest.fixture(scope="module", autouse=True)
def a_plain_environment() -> Iterator[None]:
    # In the C locale Python adds LC_CTYPE to its own environment, before the dumper can look.
    with mock.patch.dict(os.environ, {"LC_ALL": "C.UTF-8"}):
        logging.getLogger("circus").setLevel(logging.ERROR)
        yield


@settings(max_examples=60)
@given(st.lists(text | st.just(""), max_size=4), names, names, names)
def test_everything_arrives_as_it_was_given(
    arguments: list[str], program_dir: str, cwd: str, state: str
) -> None:
    with tempfile.TemporaryDirectory(prefix="codexd-") as directory:
        root = Path(directory)
        program = install(root / program_dir)
        (root / cwd).mkdir(exist_ok=True)
        environ = {
            "BAA_CODEXD_MODE": "exec",
            "BAA_CODEXD_SERVER_COMMAND": str(program),
            "BAA_CODEXD_SERVER_ARGS": json.dumps(arguments),
            "BAA_CODEXD_SERVER_CWD": str(root / cwd),
            "BAA_CODEXD_STATE_DIR": str(root / state),
            "BAA_CODEXD_LOGS_DIR": str(root / state),
        }
        config = resolve({"repo_root": str(root)}, environ, cwd="/")
        with spawned(render_circus_ini(config), root):
            got = read(program.parent)
        identity = json.loads(Path(config.paths.identity_path).read_text())
    assert got["argv"] == arguments
    assert got["cwd"] == str(root / cwd)
    assert got["environ"] == {
        **os.environ,
        "BAA_CODEXD_DAEMON_ID": identity["daemonId"],
        "BAA_CODEXD_SERVER_ENDPOINT": "stdio://codex-app-server",
    }


ALL_AT_ONCE = [
    "",
    " two  words ",
    "\"double\" 'single'",
    "$(circus.env.home) $HOME ((x)) ((circus.wid))",
    "# no ; comment",
    "100% %s %%",
    "two\nlines\n[plugin:codexd]\n",
    "模型 名\N{ROCKET}",
    "--flag=-x",
    "\udcff\udc80 no text",
    "\\ \\n",
]


def test_from_the_command_line_to_the_child(make_box: MakeBox) -> None:
    box = make_box(name="a b $(circus.env.home) ((x)) #1; 'q' \"模型\"\nx\udcff")
    program = install(box.root / "pro gram")
    flags = [f"--server-arg={argument}" for argument in ALL_AT_ONCE]
    box.start("--mode", "exec", "--server-command", str(program), *flags, wait=False)
    got = read(program.parent)
    assert got["argv"] == ALL_AT_ONCE
    assert got["cwd"] == str(box.root)
    ours = {"BAA_CODEXD_DAEMON_ID", "BAA_CODEXD_SERVER_ENDPOINT"}
    assert {key: got["environ"][key] for key in got["environ"] if key not in ours} == box.env
    identity = box.read("identity.json")
    assert identity is not None
    assert got["environ"]["BAA_CODEXD_DAEMON_ID"] == identity["daemonId"]
    child = eventually(box.child, what="the record")
    eventually(lambda: (box.child() or child)["pid"] == got["pid"], what="the child on record")
    box.stop_cleanly()
