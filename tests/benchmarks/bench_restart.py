"""How long codexd is without a server when it is killed again and again, at the defaults.

``python -m tests.benchmarks.bench_restart [--kills 12] [--apart 2.5]``

From each SIGKILL until the next server answers `initialize`. Beside each kill the same codex is
booted bare: spawned with pipes and asked the same. A ratio of 1.0 means that codexd adds nothing
to that; dying takes a process some milliseconds too, and they count. Everything is on stdio, in
turn, on one machine.

With ``--spare`` the daemon keeps a spare, and each kill waits until there is one. With ``--thread``
a client has a thread with a turn, and the time is that until it was resumed, beside a bare boot
and `thread/resume` of such a thread.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import json
import os
import signal
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

from codex_cli_bin import bundled_codex_path

from tests.support.client import AppClient
from tests.support.daemon import DaemonBox
from tests.support.model import ModelServer
from tests.support.waiting import eventually

INITIALIZE = {"clientInfo": {"name": "bench", "title": None, "version": "0"}}


def boot_bare(box: DaemonBox) -> float:
    """Seconds from spawning codex to its answer."""
    begun = time.perf_counter()
    with bare_codex(box.env, box.root) as codex:
        codex.ask("initialize", INITIALIZE)
        return time.perf_counter() - begun


def boot_and_resume(bare: Bare) -> float:
    """Seconds from spawning codex until it has resumed a thread."""
    begun = time.perf_counter()
    with bare_codex(bare.env, bare.root) as codex:
        codex.ask("initialize", INITIALIZE)
        codex.send({"method": "initialized"})
        codex.ask("thread/resume", {"threadId": bare.thread_id})
        return time.perf_counter() - begun


class Codex:
    """A codex on pipes, asked one thing after the other."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process
        self._asked = 0

    def send(self, message: dict[str, Any]) -> None:
        """One message."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(message).encode() + b"\n")
        self._process.stdin.flush()

    def ask(self, method: str, params: dict[str, Any]) -> dict[str, Any]:
        """The result."""
        self._asked += 1
        self.send({"id": self._asked, "method": method, "params": params})
        answer = self.wait(lambda message: message.get("id") == self._asked)
        result: dict[str, Any] = answer["result"]
        return result

    def wait(self, is_it: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """The first message that is the one."""
        assert self._process.stdout is not None
        while True:
            message: dict[str, Any] = json.loads(self._process.stdout.readline())
            if is_it(message):
                return message


@contextlib.contextmanager
def bare_codex(env: dict[str, str], cwd: Path) -> Iterator[Codex]:
    """A codex that is killed at the end of the block."""
    with subprocess.Popen(
        [str(bundled_codex_path()), "app-server"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=env,
        cwd=cwd,
    ) as process:
        try:
            yield Codex(process)
        finally:
            process.kill()


class Bare:
    """A CODEX_HOME of its own with one thread in it, which has had a turn."""

    def __init__(self, root: Path, box: DaemonBox, model: ModelServer) -> None:
        self.root = root
        home = root / "codex-home"
        home.mkdir(parents=True)
        self.env = {**box.env, "CODEX_HOME": str(home)}
        model.write_config(home)
        with bare_codex(self.env, root) as codex:
            codex.ask("initialize", INITIALIZE)
            codex.send({"method": "initialized"})
            self.thread_id = codex.ask("thread/start", {})["thread"]["id"]
            text = [{"type": "text", "text": "hi"}]
            codex.ask("turn/start", {"threadId": self.thread_id, "input": text})
            codex.wait(lambda message: message.get("method") == "turn/completed")


def kill_child(box: DaemonBox, until: str) -> tuple[float, float]:
    """Seconds from SIGKILL until the end of the child, and until ``until`` of the next."""
    child = box.wait_ready()
    killed_at = time.time()
    os.kill(child["pid"], signal.SIGKILL)
    # Only a look at one small file, now and then: this process must not take the processor time
    # that is being measured.
    eventually(lambda: _is_ready(box.child(), child["pid"]), what="another child")
    ready = eventually(lambda: _newest(box, until, killed_at), what=until)
    ended = box.events("child.exited")[-1]
    return _moment(ended) - killed_at, _moment(ready) - killed_at


def _has_spare(box: DaemonBox) -> bool:
    spare = (box.read("watcher.json") or {}).get("spare")
    return spare is not None and bool(spare["ready"])


def _is_ready(child: dict[str, Any] | None, other_than: int) -> bool:
    return child is not None and child["ready"] and child["pid"] != other_than


def _newest(box: DaemonBox, type_: str, since: float) -> dict[str, str] | None:
    found = [event for event in box.events(type_) if _moment(event) >= since]
    return found[0] if found else None


def _moment(event: dict[str, str]) -> float:
    return datetime.fromisoformat(event["createdAt"]).timestamp()


def main() -> None:
    """Print each kill, and the medians."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=12)
    parser.add_argument("--apart", type=float, default=2.5, metavar="SECONDS")
    parser.add_argument("--spare", action="store_true", help="with a spare")
    parser.add_argument("--thread", action="store_true", help="until a thread was resumed")
    options = parser.parse_args()
    bare, ended, ready = [], [], []
    model = ModelServer()
    with tempfile.TemporaryDirectory(prefix="codexd-bench-", dir=Path.home()) as directory:
        box = DaemonBox(Path(directory), *(["--spare", "true"] if options.spare else []))
        model.write_config(box.codex_home)
        try:
            box.start()
            boot_bare(box)
            other = Bare(Path(directory, "bare"), box, model) if options.thread else None
            if options.thread:
                client = AppClient(box.config.runtime.hub_socket_path)
                thread_id = client.start_thread()
                client.start_turn(thread_id)
                client.notification("turn/completed", threadId=thread_id)
            for number in range(options.kills):
                next_at = time.monotonic() + options.apart
                bare.append(boot_bare(box) if other is None else boot_and_resume(other))
                time.sleep(max(0.0, next_at - time.monotonic()))
                if options.spare:
                    eventually(functools.partial(_has_spare, box), within_s=30, what="a spare")
                times = kill_child(box, "session.recovered" if options.thread else "child.ready")
                ended.append(times[0])
                ready.append(times[1])
                print(
                    f"kill {number + 1:2}: its end on record {times[0] * 1000:6.1f} ms, the next "
                    f"ready {times[1] * 1000:6.1f} ms, bare boot {bare[-1] * 1000:6.1f} ms, "
                    f"ratio {times[1] / bare[-1]:.2f}",
                    flush=True,
                )
        finally:
            box.clean_up()
            model.close()
    print(f"bare boot (and resume)           {_ms(bare)}")
    print(f"SIGKILL to its end on record {_ms(ended)}")
    print(f"SIGKILL to ready again       {_ms(ready)}")
    print(f"ratio of the medians         {statistics.median(ready) / statistics.median(bare):.2f}")


def _ms(seconds: list[float]) -> str:
    low, middle, high = min(seconds), statistics.median(seconds), max(seconds)
    return f"{middle * 1000:6.1f} ms (from {low * 1000:.1f} to {high * 1000:.1f})"


if __name__ == "__main__":
    main()
