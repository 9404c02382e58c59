"""A process that writes the memory as the plugin does, to be killed at any moment.

``python -m tests.support.memory_writer ROOT FIFO MAX_BYTES [copy]``: moves what comes through
FIFO into stdout.log, records bursts and other events, and changes the state all the time. What is
more than a kilobyte goes by way of FIFO-stage. ``copy`` does without splice. Prints ``ready``
once it writes.
"""

from __future__ import annotations

import os
import select
import sys
import time
from pathlib import Path

from codexd.eventlog import appendlog, capture
from codexd.eventlog.appendlog import AppendLog
from codexd.eventlog.capture import Burst, OutputCapture, last_burst_detail, unaccounted
from codexd.eventlog.log import EventLog
from codexd.eventlog.stage import Stage
from codexd.platform import pipes
from codexd.platform.filelock import FileLock
from codexd.platform.files import make_private_directory
from codexd.store.state import Flusher, StateStore
from tests.support.memory import config_at


def main(root: str, fifo: str, max_bytes: int) -> None:
    """Write until killed."""
    config = config_at(Path(root))
    paths = config.paths
    make_private_directory(paths.state_dir)
    assert FileLock(os.path.join(paths.state_dir, "writer.lock")).acquire(10)
    events = EventLog(
        paths.structured_event_log_path,
        paths.recent_events_path,
        max_bytes=max_bytes,
        backups=10_000,
        cache_size=20,
    )
    store = StateStore.open(config, recent=events.recent_record)
    events.subscribe(store.event_recorded)
    for repair in (*events.repairs, *store.repairs):
        events.record("warn", "state.repaired", repair)
    flusher = Flusher(store)
    # As `codexd start` does before there is a plugin.
    flusher.must_be_written()
    flusher.start()

    def tell(burst: Burst) -> None:
        events.record("info", "child.stdout", f"stdout: {burst.preview}", burst.detail("stdout"))

    count, position = unaccounted(
        paths.stdout_log_path,
        last_burst_detail(events.kinds, paths.structured_event_log_path, "stdout"),
    )
    if count:
        detail = {"bytes": count, "stream": "stdout", **position}
        events.record("info", "child.stdout", "stdout: from before", detail)
    log = AppendLog(paths.stdout_log_path, max_bytes=max_bytes, backups=10_000)
    output = OutputCapture(log, on_burst=tell, on_lost=lambda _: os.abort())
    pipe = os.open(fifo, os.O_RDWR | os.O_NONBLOCK)
    stage = Stage(f"{fifo}-stage") if sys.platform == "linux" else None
    print("ready", flush=True)
    number = 0
    while True:
        select.select([pipe], [], [], 0.005)
        output.pump(pipe, 20_000, stage=stage)
        number += 1
        if number % 3 == 0:
            burst = output.take_burst()
            if burst is not None:
                tell(burst)
        store.update_child(restarts=number)
        time.sleep(0.0005)


if __name__ == "__main__":
    if sys.argv[4:] == ["copy"]:

        def no_splice(*_: object) -> int:
            raise pipes.CannotSplice

        vars(appendlog)["splice"] = no_splice
    vars(capture)["_MUCH_BYTES"] = 1 << 10
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
