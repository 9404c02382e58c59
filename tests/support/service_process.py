"""A stand-in for the process of a service: `service_process.py launchd|systemd FILE`.

It is as far a daemon as the install scripts look: it has the lock and the record of one, until it
gets SIGTERM. Where HOME has a file `broken`, it says what is in there and ends, as codexd would.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

from codexd import runtime
from codexd.platform import lock
from codexd.service.file import Kind, ServiceFile
from codexd.store.blank import blank_daemon
from codexd.store.files import pretty, write_atomic


def main(kind: Kind, path: str) -> None:
    """Be the service in the file at ``path``."""
    service = ServiceFile(kind, Path(path).read_text(), os.environ["HOME"])
    broken = Path(os.environ["HOME"], "broken")
    if broken.exists():
        if service.error_log is not None:
            with open(service.error_log, "a") as log:
                log.write(f"codexd: {broken.read_text()}\n")
        sys.exit(1)
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    runtime.make_directories(service.config.paths, service.config.runtime)
    lock.acquire(service.config.runtime.lock_path)
    daemon = blank_daemon(service.config.server)
    daemon.started, daemon.pid = True, os.getpid()
    daemon.child.status, daemon.child.ready = "running", True
    write_atomic(service.config.paths.daemon_state_path, pretty(daemon))
    signal.sigwait({signal.SIGTERM})
    runtime.leave(service.config.paths, service.config.runtime)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])  # type: ignore[arg-type]
