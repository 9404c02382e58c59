"""A process that is forked and goes on as another program: nothing tells it from one executed.

Each is forked by a fresh Python: that of the tests has threads.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from codexd.platform import forked

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="nothing is forked elsewhere")

# What the forked one does: says what it is, and ends as it is told on its stdin.
CODE = """
import json, os, sys, threading, time
told = os.read(0, 100).decode()
home = "/proc/self/"
fds = {int(name): os.readlink(home + "fd/" + name) for name in os.listdir(home + "fd")
       if os.path.exists(home + "fd/" + name)}
what = {"argv": sys.argv, "fds": fds, "environ": dict(os.environ), "session": os.getsid(0),
        "cwd": os.getcwd(), "has": "decimal" in sys.modules}
def write():
    time.sleep(0.05)
    with open(sys.argv[1], "w") as file:
        json.dump(what, file)
# It is not cut off by the end of the process.
threading.Thread(target=write).start()
if told == "raise":
    raise ValueError
sys.exit(int(told) if told else None)
"""

# Forks that, looks at it, tells it how to end, and prints what it saw.
DRIVER = """
import decimal, json, os, signal, sys
from codexd.platform import forked
said, told = sys.argv[1:]
code = {code!r}
argv = [sys.executable, "-c", code, said, "wörd", ""]
env = {{"PATH": "/bin", "ODD": "a=b\\nc", "PYTHONPATH": {path!r}}}
other = open(os.devnull)
stdin, word = os.pipe()
if told == "refused":
    forked.show_as = lambda *_: False
otherwise = [sys.executable, "-c", "import os; os.read(0, 9); os._exit(3)"]
process = forked.fork(argv, env, "/", stdin, otherwise=otherwise)
os.close(stdin)
while process.cwd() != "/" or process.cmdline()[:1] != [sys.executable] or process.environ() != env:
    pass
saw = {{"poll": process.poll(), "argv": process.cmdline(), "pid": process.pid, "argv_ok": None}}
saw["name"] = process.name()
saw["argv_ok"] = process.cmdline() in (argv, otherwise)
if told == "kill":
    process.kill()
else:
    os.write(word, told.encode())
os.close(word)
if told == "ignored":
    os.waitpid(process.pid, 0)
first = process.wait(30) if told == "0" else None
while process.poll() is None:
    pass
saw["ends"] = [first, process.poll(), process.wait(), process.returncode]
saw["stays"] = forked.can_fork()
print(json.dumps(saw))
"""


def drive(said: Path, told: str) -> tuple[dict[str, Any], dict[str, Any] | None]:
    """What its parent saw of it, and what it said itself."""
    code = DRIVER.format(code=CODE, path=os.getcwd())
    env = {**os.environ, "PYTHONPATH": os.getcwd()}
    run = subprocess.run(
        [sys.executable, "-c", code, str(said), told],
        capture_output=True,
        text=True,
        env=env,
        timeout=30,
        check=True,
    )
    assert not run.stdout.count("\n") > 1, "it went on where its parent was"
    return json.loads(run.stdout), json.loads(said.read_text()) if said.exists() else None


def test_it_is_shown_and_set_up_as_one_that_was_executed(tmp_path: Path) -> None:
    saw, said = drive(tmp_path / "said", "0")
    assert said is not None
    assert saw["poll"] is None
    assert said["argv"] == ["-c", str(tmp_path / "said"), "wörd", ""]
    if saw["argv"][2] == CODE:
        assert saw["argv"][1:] == [*said["argv"][:1], CODE, *said["argv"][1:]]
        assert saw["name"] == os.path.basename(sys.executable)[:15]
    assert (said["cwd"], said["session"]) == ("/", saw["pid"])
    # Nothing of its parent's but what it was given.
    assert set(said["fds"]) == {"0", "1", "2"}
    assert said["fds"]["0"].startswith("pipe:")
    assert said["fds"]["1"] == said["fds"]["2"] == os.devnull
    assert set(said["environ"]) == {"PATH", "ODD", "PYTHONPATH"}
    # All that was loaded.
    assert said["has"]
    assert saw["ends"] == [0, 0, 0, 0]


@pytest.mark.parametrize(
    ("told", "code"), [("7", 7), ("", 0), ("raise", 1), ("kill", -9), ("refused", 3)]
)
def test_its_end_is_told_as_that_of_any_child(tmp_path: Path, told: str, code: int) -> None:
    saw, said = drive(tmp_path / "said", told)
    assert saw["ends"] == [None, code, code, code]
    assert saw["argv_ok"]
    # What its threads were in the middle of was done.
    assert (said is None) == (told in ("kill", "refused"))


def test_one_that_somebody_else_reaped_is_no_riddle(tmp_path: Path) -> None:
    saw, _ = drive(tmp_path / "said", "ignored")
    assert saw["ends"] == [None, 0, 0, 0]


def test_a_process_with_threads_is_not_forked() -> None:
    done = threading.Event()
    thread = threading.Thread(target=done.wait)
    thread.start()
    try:
        assert not forked.can_fork()
    finally:
        done.set()
        thread.join()
