"""What the server gets from whoever starts the daemon: as without codexd, and no more."""

from __future__ import annotations

import json
import os
import resource
import signal
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.conftest import MakeBox
from tests.integration.test_stock_circusd import CIRCUSD
from tests.support.daemon import CODEXD, DaemonBox
from tests.support.faults import lives, runtime_dir
from tests.support.npm import NpmPackage
from tests.support.settled import settled
from tests.support.stub import STUB
from tests.support.waiting import eventually

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")

# The child: writes down what it got, and stays.
CHILD = r"""
import json, os, resource, signal, sys
status = dict(line.split(":\t", 1) for line in open("/proc/self/status") if ":\t" in line)
json.dump({
    "umask": status["Umask"].strip(),
    "ignored": int(status["SigIgn"], 16),
    "blocked": int(status["SigBlk"], 16),
    "nofile": resource.getrlimit(resource.RLIMIT_NOFILE),
    "core": resource.getrlimit(resource.RLIMIT_CORE),
    "nice": os.nice(0),
    "descriptors": sorted(map(int, os.listdir("/proc/self/fd"))),
    "environ": dict(os.environ),
    "cwd": os.getcwd(),
    "leads": os.getsid(0) == os.getpgid(0) == os.getpid(),
}, open("got.tmp", "w"))
os.rename("got.tmp", "got.json")
signal.pause()
"""
# The starter: a shell with `nohup`, in the background of a script, with everything odd.
STARTER = r"""
import os, resource, signal, sys
for name in ("HUP", "INT", "QUIT", "USR1", "CHLD"):
    signal.signal(getattr(signal, f"SIG{name}"), signal.SIG_IGN)
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR2, signal.SIGTERM, signal.SIGCHLD})
os.umask(0o027)
os.nice(3)
resource.setrlimit(resource.RLIMIT_NOFILE, (200, 4000))
resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
for descriptor in (3, 7, 50):
    os.dup2(2, descriptor)
os.environ.update(
    NOTIFY_SOCKET="/nowhere", WATCHDOG_USEC="9000000", WATCHDOG_PID=str(os.getpid()),
    LISTEN_FDS="1", LISTEN_PID=str(os.getpid()), LISTEN_FDNAMES="x", KEPT="yes",
)
os.execv(sys.argv[1], sys.argv[1:])
"""


def start(box: DaemonBox, *command: str) -> dict[str, Any]:
    """Run the command as that starter does; what the child got."""
    box.launch(sys.executable, "-IS", "-c", STARTER, *command)
    path = box.root / "got.json"
    eventually(path.exists, what=f"a child: {box.errors()}")
    got: dict[str, Any] = json.loads(path.read_text("utf-8"))
    box.note_processes()
    return got


def flags(*more: str) -> list[str]:
    arguments = [f"--server-arg={word}" for word in ("-IS", "-c", CHILD)]
    return ["--mode=exec", "--server-command", sys.executable, *arguments, *more]


def signal_set(process: psutil.Process, name: str) -> set[int]:
    """A set of signals as the kernel tells it."""
    status = Path(f"/proc/{process.pid}/status").read_text("utf-8")
    (mask,) = [int(line.split()[1], 16) for line in status.splitlines() if line.startswith(name)]
    return {signum for signum in range(1, 65) if mask & 1 << (signum - 1)}


def private(path: Path) -> bool:
    return path.exists() and path.stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("stock", [False, True])
def test_the_child_gets_what_its_starter_has_and_what_is_the_daemons_stays_there(
    make_box: MakeBox, stock: bool
) -> None:
    box = make_box(*flags())
    if stock:
        ini = box.root / "circus.ini"
        ini.write_text(box.run("render-circus").stdout, "utf-8")
        got = start(box, *CIRCUSD, str(ini))
    else:
        got = start(box, *CODEXD, "start", *box.flags)
    assert got["umask"] == "0027"
    # Of Python's own, which ignores SIGPIPE and SIGXFSZ when it starts: nothing else.
    python = 1 << (signal.SIGPIPE - 1) | 1 << (signal.SIGXFSZ - 1)
    assert (got["ignored"] & ~python, got["blocked"]) == (0, 0)
    assert got["nofile"] == [4000, 4000]
    assert got["core"] == [0, 0]
    assert got["nice"] == os.nice(0) + 3
    # The last is that of the directory it lists them in.
    assert got["descriptors"] == [0, 1, 2, 3]
    assert got["cwd"] == str(box.root)
    assert got["leads"]
    environ = got["environ"]
    assert environ["KEPT"] == "yes"
    assert "BAA_CODEXD_DAEMON_ID" in environ
    assert not [name for name in environ if name.startswith(("NOTIFY", "WATCHDOG", "LISTEN"))]

    # What codexd makes for itself is private all the same.
    runtime = runtime_dir(box)
    sockets = [runtime / name for name in ("circus.sock", "events.sock", "codexd.sock")]
    eventually(lambda: all(map(private, sockets)), what="private sockets")
    tops = (box.state_dir, box.logs_dir)
    made = [*tops, *settled(*tops)]
    assert [path for path in made if not path.is_symlink() and not private(path)] == []

    # Both of codexd's processes use what they may; the signals that were ignored stay so.
    daemon, plugin = psutil.Process(box.started[0].pid), box.plugin()
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    assert most == resource.RLIM_INFINITY or most >= 4000
    for process in (daemon, plugin):
        assert process.rlimit(psutil.RLIMIT_NOFILE) == (4000, 4000)
        for signum in (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT):
            process.send_signal(signum)
    # The first plugin hears what one does that circusd starts later: its children's end, too.
    ignored = {signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGUSR1}
    assert signal_set(plugin, "SigIgn") == ignored | {signal.SIGPIPE, signal.SIGXFSZ}
    assert signal_set(plugin, "SigBlk") == {signal.SIGUSR2}
    assert plugin.cwd() == "/"
    assert not Path(f"/proc/{plugin.pid}/fd/50").exists()
    assert box.run("ctl", "status").returncode == 0
    assert lives(daemon.pid)
    assert lives(plugin.pid)
    box.stop_cleanly()


@pytest.mark.parametrize(
    ("setting", "nofile"), [("0", [200, 4000]), ("300", [300, 4000]), ("9999", [4000, 4000])]
)
def test_open_files_are_as_set_or_as_the_starter_has_them(
    make_box: MakeBox, setting: str, nofile: list[int]
) -> None:
    box = make_box(*flags(f"--child-nofile={setting}"))
    assert start(box, *CODEXD, "start", *box.flags)["nofile"] == nofile
    box.stop_cleanly()


def test_behind_npms_codex_the_native_binary_is_started(make_box: MakeBox) -> None:
    box = make_box()
    binary = f'#!/bin/sh\nenv >environ\nexec "{sys.executable}" -IS "{STUB}" "$@"\n'
    npm = NpmPackage(box.root / "npm", binary, platform=sys.platform, machine=os.uname().machine)
    box.env["PATH"] = f"{npm.command.parent}:{box.env['PATH']}"
    box.start()
    environ = (box.root / "environ").read_text("utf-8").splitlines()
    assert f"CODEX_MANAGED_PACKAGE_ROOT={npm.package}" in environ
    assert "CODEX_MANAGED_BY_NPM=1" in environ
    child = box.child()
    assert child is not None
    assert child["command"] == "codex"
    # An upgrade of the package is seen, though the file on PATH is the same.
    npm.binary.rename(npm.binary.with_suffix(".old"))
    npm.write(npm.binary, binary)
    assert f"{npm.binary} on disk is not the one that runs" in box.run("status").stdout
    box.stop_cleanly()
