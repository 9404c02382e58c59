"""How long there is no server when it is killed again and again, beside a bare boot and the peers.

``python -m tests.benchmarks.bench_restart``

codexd: from SIGKILL until the next server has answered `initialize`, as its record says. A bare
boot: from the spawn to the same answer; dying takes a process some milliseconds too, and they
count for all but the boot. The peers keep codex on a Unix socket, and somebody asks there every
millisecond. Those that wait a second or more by their nature come when the others are through.
"""

from __future__ import annotations

import contextlib
import functools
import os
import signal
import time
from collections.abc import Callable
from datetime import datetime
from typing import Any, Final

from tests.benchmarks.boot import BareBoot
from tests.benchmarks.command import alone
from tests.benchmarks.kept import Kept
from tests.benchmarks.peers import Unavailable
from tests.benchmarks.raw_client import first_answer
from tests.benchmarks.row import OURS, Bench, Mark, Row
from tests.benchmarks.scene import Scene
from tests.support.client import AppClient
from tests.support.daemon import DaemonBox, daemon_box
from tests.support.model import ModelServer
from tests.support.waiting import eventually

_KILLS: Final = 12
_APART_S: Final = 2.5
_BOOT: Final = "bare boot"
_BOOT_AND_RESUME: Final = "boot and resume"
_QUICK_PEERS: Final = ("runit", "pm2")
_SLOW_PEERS: Final = ("s6", "supervisord", "circus")
# Two medians of one and the same thing differ by as much.
_LEVEL: Final = 1.05

PLAIN: Final = Row(
    "restart.plain",
    "SIGKILL of codex to the next initialize answered",
    "ms",
    (_BOOT, *_QUICK_PEERS, *_SLOW_PEERS),
    (Mark(1.1, _BOOT, each=True), *(Mark(_LEVEL, one) for one in _QUICK_PEERS + _SLOW_PEERS)),
)
SPARE: Final = Row("restart.spare", "the same with a spare", "ms", (_BOOT,), (Mark(0.35, _BOOT),))
SPARE_THREAD: Final = Row(
    "restart.spare-thread",
    "with a spare, until a thread is resumed",
    "ms",
    (_BOOT_AND_RESUME,),
    (Mark(0.6, _BOOT_AND_RESUME),),
)


def kill_child(box: DaemonBox, until: str) -> float:
    """Milliseconds from SIGKILL until ``until`` of the next child is on record."""
    child = box.wait_ready()
    killed_at = time.time()
    os.kill(child["pid"], signal.SIGKILL)
    # Only a look at one small file, now and then: this process must not take the processor time
    # that is being measured.
    eventually(lambda: _is_ready(box.child(), child["pid"]), what="another child")
    ready = eventually(lambda: _newest(box, until, killed_at), what=until)
    return (_moment(ready) - killed_at) * 1000


def _is_ready(child: dict[str, Any] | None, other_than: int) -> bool:
    return child is not None and child["ready"] and child["pid"] != other_than


def _newest(box: DaemonBox, type_: str, since: float) -> dict[str, str] | None:
    found = [event for event in box.events(type_) if _moment(event) >= since]
    return found[0] if found else None


def _moment(event: dict[str, str]) -> float:
    return datetime.fromisoformat(event["createdAt"]).timestamp()


def kill_kept(kept: Kept) -> float:
    """Milliseconds from SIGKILL of a peer's codex until another one answers."""
    begun = time.perf_counter()
    os.kill(kept.pid, signal.SIGKILL)
    kept.pid = first_answer(kept.socket, other_than=kept.pid)
    return (time.perf_counter() - begun) * 1000


def _in_turns(scene: Scene, sides: list[Callable[[], None]]) -> None:
    """Each every two and a half seconds, or as soon as it is its turn.

    They are spread over that time: a codex that has just come up is busy for a while yet, and
    is to disturb nobody.
    """
    for _ in scene.rounds(_KILLS, quick=3):
        begun = time.monotonic()
        for number, side in enumerate(sides):
            _sleep_until(begun + _APART_S * number / len(sides))
            side()
        _sleep_until(begun + _APART_S)


def _sleep_until(moment: float) -> None:
    time.sleep(max(0.0, moment - time.monotonic()))


def _peers(scene: Scene, names: tuple[str, ...], stack: contextlib.ExitStack) -> list[Kept]:
    found = []
    for name in names:
        try:
            kept = Kept(name, scene)
        except Unavailable as why:
            scene.miss(name, str(why), (PLAIN,))
            continue
        stack.callback(kept.close)
        found.append(kept)
    return found


def _try_peer(scene: Scene, kept: Kept) -> None:
    """A peer that fails is left out, and stops nobody."""
    if kept.name in scene.measured[PLAIN.name].missing:
        return
    try:
        scene.take(PLAIN.name, kept.name, kill_kept(kept))
    except (OSError, TimeoutError) as error:
        scene.measured[PLAIN.name].samples.pop(kept.name, None)
        scene.miss(kept.name, f"it does not come back: {error}", (PLAIN,))


def plain(scene: Scene) -> None:
    """Those that are back at once, in turns; then those that wait."""
    scene.begin("killing codex under codexd and its peers")
    with contextlib.ExitStack() as stack:
        box = stack.enter_context(daemon_box(scene.place("codexd")))
        boot = BareBoot(scene.place("bare"), box.env)
        box.start()
        peers = _peers(scene, _QUICK_PEERS, stack)
        boot.seconds()
        ours: list[Callable[[], None]] = [
            lambda: scene.take(PLAIN.name, _BOOT, boot.seconds() * 1000),
            lambda: scene.take(PLAIN.name, OURS, kill_child(box, "child.ready")),
        ]
        _in_turns(scene, ours + [functools.partial(_try_peer, scene, kept) for kept in peers])
    scene.begin("killing codex under those that wait")
    with contextlib.ExitStack() as stack:
        peers = _peers(scene, _SLOW_PEERS, stack)
        if peers:
            _in_turns(scene, [functools.partial(_try_peer, scene, kept) for kept in peers])


def spare(scene: Scene) -> None:
    """Each kill once there is a spare again."""
    scene.begin("killing codex, with a spare")
    with daemon_box(scene.place("codexd"), "--spare", "true") as box:
        boot = BareBoot(scene.place("bare"), box.env)
        box.start()
        boot.seconds()
        _with_spare(scene, box, SPARE.name, _BOOT, boot.seconds, "child.ready")


def spare_thread(scene: Scene) -> None:
    """Until a thread that a client has open was resumed."""
    scene.begin("killing codex, with a spare and a thread")
    with contextlib.ExitStack() as stack:
        model = ModelServer()
        stack.callback(model.close)
        box = stack.enter_context(daemon_box(scene.place("codexd"), "--spare", "true"))
        model.write_config(box.codex_home)
        boot = BareBoot(scene.place("bare"), box.env)
        boot.make_thread(model)
        box.start()
        client = AppClient(box.config.runtime.hub_socket_path)
        stack.callback(client.close)
        thread_id = client.start_thread()
        client.start_turn(thread_id)
        client.notification("turn/completed", threadId=thread_id)
        row, beside = SPARE_THREAD.name, _BOOT_AND_RESUME
        _with_spare(scene, box, row, beside, boot.seconds_to_resume, "session.recovered")


def _with_spare(
    scene: Scene, box: DaemonBox, row: str, side: str, beside: Callable[[], float], until: str
) -> None:
    def kill() -> None:
        eventually(functools.partial(_has_spare, box), within_s=30, what="a spare")
        scene.take(row, OURS, kill_child(box, until))

    _in_turns(scene, [lambda: scene.take(row, side, beside() * 1000), kill])


def _has_spare(box: DaemonBox) -> bool:
    found = (box.read("watcher.json") or {}).get("spare")
    return found is not None and bool(found["ready"])


BENCHES: Final = (
    Bench((PLAIN,), plain),
    Bench((SPARE,), spare),
    Bench((SPARE_THREAD,), spare_thread),
)

if __name__ == "__main__":
    alone(BENCHES)
