"""The daemon: prepare, take the lock, run circus's arbiter in this process, finish."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Callable

from codexd import runtime
from codexd.child.command import check_cwd, find_executable
from codexd.child.outcome import Outcome
from codexd.circus_ext import hooks
from codexd.circus_ext.run import RunningCircus, run_circus
from codexd.config import Config
from codexd.link.endpoint import BadEndpoint, check_endpoint
from codexd.platform.files import explain, write_aside
from codexd.platform.lock import LockedElsewhere
from codexd.platform.notify import ServiceManager
from codexd.records.records import Records, open_as_daemon, record_end
from codexd.rendering import CannotRender
from codexd.store.snapshot import read_daemon
from codexd.supervisor.errors import CannotStart
from codexd.supervisor.ini import circus_ini
from codexd.supervisor.readiness import ignore, wait_until_up
from codexd.supervisor.session import NewSession, await_end, register
from codexd.supervisor.status_text import status_text

# How often the service manager may be told something new.
_STATUS_S = 2.0


class Daemon:
    """One run of the daemon in this process.

    ``announce(outcome)`` is called when the child runs, and once more when it is up or cannot be.
    ``ini`` gives circus.ini, where that is rendered already.
    """

    def __init__(
        self,
        config: Config,
        announce: Callable[[Outcome], None] | None,
        ini: Callable[[], bytes] | None = None,
    ) -> None:
        self.config = config
        self._announce = announce
        self._ini = ini or (lambda: circus_ini(config))
        self._manager = ServiceManager(os.environ)
        self._session: NewSession | None = None
        self._repairs: list[str] = []

    def prepare(self) -> None:
        """Everything that can be wrong is found here, before anything runs.

        Raises:
            CannotStart: with the reason.
        """
        try:
            check_endpoint(
                self.config.server,
                os.environ,
                hub_on_the_default=self.config.policy.hub_default_socket,
            )
        except BadEndpoint as error:
            raise CannotStart(str(error), is_configuration=True) from error
        try:
            self._repairs = runtime.make_directories(self.config.paths, self.config.runtime)
            self._prepare_listener()
            self._repairs += runtime.take_over(self.config, _say)
        except LockedElsewhere as error:
            holder = f"as pid {error.holder}" if error.holder else "in another process"
            raise CannotStart(
                f"codexd already runs on {self.config.paths.state_dir}, {holder}: "
                "stop it with `codexd stop`, or choose another --state-dir."
            ) from error
        except OSError as error:
            raise CannotStart(_reason(error)) from error
        # What has begun is ended in order.
        hooks.hold_signals()
        try:
            self._record_and_render()
        except CannotStart:
            runtime.leave(self.config.paths, self.config.runtime)
            raise

    def _prepare_listener(self) -> None:
        """What was told of the TCP listener: its address, its certificate, its tokens."""
        policy = self.config.policy
        if not policy.hub_listen:
            return
        from codexd.api.tcp import prepare_tokens, token_files
        from codexd.listener_settings import check_settings

        try:
            check_settings(policy)
            prepare_tokens(token_files(policy, self.config.paths, os.environ))
        except OSError as error:
            raise CannotStart(_reason(error), is_configuration=True) from error

    def _record_and_render(self) -> None:
        try:
            with open_as_daemon(self.config) as records:
                self._begin(records)
        except OSError as error:
            raise CannotStart(_reason(error)) from error
        try:
            self._write_ini()
        except CannotRender as error:
            raise CannotStart(f"circus.ini cannot be written: {error}") from error
        except OSError as error:
            raise CannotStart(f"circus.ini cannot be written: {explain(error)}") from error

    def _begin(self, records: Records) -> None:
        server = self.config.server
        records.daemon_begins(os.getpid())
        for repair in self._repairs:
            records.recorder.event("warn", "state.repaired", repair)
        is_external = server.child_strategy == "external"
        if is_external:
            records.recorder.external(server.endpoint)
        else:
            records.recorder.starting()
        # From here on a full disk stops nothing; before, nobody relies on this daemon yet.
        try:
            records.must_be_written()
        except OSError:
            records.recorder.daemon_stopped()
            raise
        if is_external:
            return
        try:
            check_cwd(server)
            find_executable(server, os.environ)
        except OSError as error:
            records.recorder.cannot_spawn(str(error))
            records.recorder.daemon_stopped()
            # Nothing else of it is anything that the user set.
            wrong = isinstance(error, NotADirectoryError)
            raise CannotStart(str(error), is_configuration=wrong) from error

    def _write_ini(self) -> None:
        write_aside(self.config.runtime.circus_ini_path, self._ini(), flush=False)

    def run(self, *, lifetime_s: float | None = None, session: NewSession | None = None) -> None:
        """Run circus until a signal, `codexd stop` or the end of ``lifetime_s``.

        ``session`` is registered once the child runs.
        """
        self._session = session
        again = True
        while again:
            again = self._run_circus(lifetime_s)
        self._manager.stopping()

    def _run_circus(self, lifetime_s: float | None) -> bool:
        """Run one arbiter; True if an operator asked circus to restart it."""

        def begin(circus: RunningCircus) -> None:
            circus.spawn(self._watch, circus, lifetime_s)
            circus.spawn(self._beat)
            if self._session is not None:
                circus.spawn(register, self.config.paths, self._session, circus.publish)

        return run_circus(self.config.runtime.circus_ini_path, begin)

    async def _beat(self) -> None:
        """Tell the service manager that this loop turns, for as long as it does."""
        interval_s = self._manager.watchdog_interval_s
        while interval_s is not None:
            self._manager.alive()
            await asyncio.sleep(interval_s)

    async def _watch(self, circus: RunningCircus, lifetime_s: float | None) -> None:
        tell = self._announce or ignore
        outcome = await wait_until_up(self.config, os.getpid(), tell)
        # Up, even if the server is not: the daemon keeps trying, and to end it would help nobody.
        self._manager.ready(outcome.reason or "ready")
        if self._manager.listens:
            circus.spawn(self._tell_status, circus, outcome.reason or "ready")
        tell(outcome)
        if lifetime_s is not None:
            await asyncio.sleep(lifetime_s)
            if self._session is not None:
                await await_end(self.config.paths)
            circus.stop()

    async def _tell_status(self, circus: RunningCircus, told: str) -> None:
        """Keep what the service manager shows true; ``told`` is what it shows."""
        while not circus.is_over:
            status = status_text(read_daemon(self.config.paths), circus.told, os.getpid())
            if status != told:
                told = status
                self._manager.status(status)
            await asyncio.sleep(_STATUS_S)

    def finish(self, *, close_session: str | None = None) -> None:
        """Set right what the plugin could not see, once circus is gone.

        It has ended in order also where that cannot be written: the next start records it.
        """
        try:
            record_end(self.config, close_session=close_session)
        except OSError as error:
            _say(f"the end cannot be recorded: {_reason(error)}")
        runtime.leave(self.config.paths, self.config.runtime)
        hooks.ignore_signals()


def _say(line: str) -> None:
    print(f"codexd: {line}", file=sys.stderr)


def _reason(error: OSError) -> str:
    """Why it cannot start, in one line; an error of our own is one already."""
    return str(error) if error.errno is None else explain(error)
