"""A systemd user service (systemctl(1))."""

from __future__ import annotations

import os
import pwd
import re
import subprocess
from collections.abc import Mapping, Sequence
from typing import ClassVar, Final

from codexd.service.file import Kind, ServiceFile
from codexd.service.hands import Hands, ServiceError, output, succeeds
from codexd.service.manager import Manager, last_line

_UNIT: Final = "codexd.service"
_NO_MANAGER: Final = (
    "systemctl reaches no manager of this user: log in as the user (not with su or sudo)."
)
_SYSTEMCTL: Final = ("systemctl", "--user")


class Systemd(Manager):
    """codexd.service of the user whose home is ``home``."""

    kind: ClassVar[Kind] = "systemd"
    tool = "systemctl"
    comment = ("# ", "")

    def __init__(self, home: str, environ: Mapping[str, str]) -> None:
        self.name = self.label = _UNIT
        base = environ.get("XDG_CONFIG_HOME") or os.path.join(home, ".config")
        self.path = os.path.join(base, "systemd/user", _UNIT)

    def need_tool(self) -> None:
        """See :meth:`Manager.need_tool`; and that this user has a manager that runs."""
        super().need_tool()
        command = [*_SYSTEMCTL, "show", "--property=Version"]
        # Why not, systemctl says itself.
        if subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL).returncode:
            raise ServiceError(_NO_MANAGER)

    def pid(self) -> int | None:
        """See :meth:`Manager.pid`."""
        found = re.fullmatch(r"([1-9]\d*)", self._show("MainPID"))
        return int(found[1]) if found else None

    def _show(self, what: str) -> str:
        return output(*_SYSTEMCTL, "show", f"--property={what}", "--value", self.name).strip()

    def is_loaded(self) -> bool:
        """See :meth:`Manager.is_loaded`."""
        return succeeds(*_SYSTEMCTL, "--quiet", "is-enabled", self.name)

    def is_active(self) -> bool:
        """See :meth:`Manager.is_active`."""
        return self.is_loaded() and succeeds(*_SYSTEMCTL, "--quiet", "is-active", self.name)

    def has_given_up(self, file: ServiceFile, since: int) -> bool:
        """See :meth:`Manager.has_given_up`."""
        del file, since
        return self._show("ActiveState") == "failed"

    def last_words(self, file: ServiceFile, since: int) -> str | None:
        """See :meth:`Manager.last_words`."""
        del file, since
        run = self._show("InvocationID")
        lines = ("-n20", "-ocat", "--no-pager")
        said = output("journalctl", "--user", f"_SYSTEMD_INVOCATION_ID={run}", *lines)
        return last_line(said) or self._how_it_ended()

    def _how_it_ended(self) -> str | None:
        """What systemd knows of it, where no journal is kept."""
        result, code = self._show("Result"), self._show("ExecMainStatus")
        if result in ("", "success"):
            return None
        then = ": a setting that cannot be" if code == "2" else ""
        return f"It ended with {result}, code {code}{then}; `codexd start` says more."

    def check_command(self) -> Sequence[str]:
        """None: systemd passes over what it does not know."""
        return ()

    def start(self, hands: Hands) -> None:
        """See :meth:`Manager.start`."""
        if hands.run(*_SYSTEMCTL, "daemon-reload") != 0:
            raise ServiceError(_NO_MANAGER)
        if hands.run(*_SYSTEMCTL, "enable", self.name) != 0:
            raise ServiceError(f"systemctl --user enable {self.name} failed.")
        # Starts it, too, if it does not run. Why it does not come up, codexd itself says best.
        hands.run(*_SYSTEMCTL, "restart", self.name)

    def remove(self, hands: Hands) -> None:
        """See :meth:`Manager.remove`."""
        if not os.path.lexists(self.path):
            self._forget(hands)
            return
        if hands.run(*_SYSTEMCTL, "disable", "--now", self.name) != 0:
            raise ServiceError(
                f"systemctl --user disable --now {self.name} failed; {self.path} is still there."
            )
        hands.remove(self.path)
        hands.run(*_SYSTEMCTL, "daemon-reload")

    def _forget(self, hands: Hands) -> None:
        """Its file was removed by hand: systemd runs it, and starts it, all the same."""
        if hands.run(*_SYSTEMCTL, "stop", self.name) != 0:
            raise ServiceError(f"systemctl --user stop {self.name} failed.")
        wants = os.path.join(os.path.dirname(self.path), "default.target.wants", self.name)
        hands.remove(wants)
        hands.run(*_SYSTEMCTL, "daemon-reload")

    def where_output_is(self, file: ServiceFile) -> str:
        """See :meth:`Manager.where_output_is`."""
        del file
        return "see: systemctl --user status codexd"

    def advice(self) -> str | None:
        """See :meth:`Manager.advice`."""
        user = pwd.getpwuid(os.getuid()).pw_name
        if output("loginctl", "show-user", user, "--property=Linger").strip() == "Linger=yes":
            return None
        return f"it ends when you log out; to keep it: loginctl enable-linger {user}"
