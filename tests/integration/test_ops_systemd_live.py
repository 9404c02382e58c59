"""codexd under a real systemd user manager, with the real codex: installed, killed, stopped."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from codexd.config import resolve
from tests.support.checkout import ROOT, Checkout
from tests.support.systemd_user import UserManager, can_run
from tests.support.waiting import eventually

pytestmark = [
    pytest.mark.real,
    pytest.mark.skipif(not can_run(), reason="needs systemd, and root for namespaces"),
]

# What the service has besides its unit: where this suite's codexd is, and a codex home aside,
# and less patience than a machine has.
DROP_IN = """[Service]
Environment=PYTHONPATH={root} "CODEX_HOME={codex_home}"
RestartSec=100ms
WatchdogSec=3
"""


class Service:
    """An installed service and the manager that runs it."""

    def __init__(self, checkout: Checkout, manager: UserManager) -> None:
        self._checkout = checkout
        self._manager = manager

    def ops(self, script: str, *args: str) -> str:
        """Run a script of ops/; returns its output."""
        done = self._manager.run(
            str(self._checkout.root / "ops" / script),
            *args,
            cwd=self._checkout.root,
            environ={"PYTHONPATH": str(ROOT)},
        )
        return f"{done.stdout}{done.stderr}[{done.returncode}]"

    def show(self, name: str) -> str:
        """One property of the service."""
        command = ["systemctl", "--user", "show", "codexd", f"--property={name}", "--value"]
        return self._manager.run(*command).stdout.strip()

    def drop_in(self, line: str) -> None:
        """One more line for the service, as `systemctl --user edit` adds it."""
        path = self._checkout.home / ".config/systemd/user/codexd.service.d/z.conf"
        path.write_text(f"[Service]\n{line}\n")

    def kill(self, signal: str) -> None:
        """Send the daemon a signal."""
        command = ["systemctl", "--user", "kill", "--kill-who=main", "-s", signal, "codexd"]
        assert self._manager.run(*command).returncode == 0


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    """A checkout and a manager; nothing is installed yet."""
    checkout = Checkout(tmp_path / "my repo", tmp_path / "home")
    codex_home = tmp_path / "codex home"
    codex_home.mkdir()
    drop_in = checkout.home / ".config/systemd/user/codexd.service.d/test.conf"
    drop_in.parent.mkdir(parents=True)
    drop_in.write_text(DROP_IN.format(root=ROOT, codex_home=codex_home))
    with UserManager(checkout.home) as manager:
        yield Service(checkout, manager)
    # A daemon that is killed last leaves its sockets, elsewhere where the path is long.
    config = resolve({"repo_root": str(checkout.root)}, {}, cwd="/")
    shutil.rmtree(config.runtime.runtime_dir, ignore_errors=True)


def test_a_service_from_install_to_uninstall(service: Service) -> None:
    # Installing returns once the server is ready: systemd has waited for codexd to say so.
    assert "started codexd.service" in service.ops("install-systemd.sh")
    assert service.show("ActiveState") == "active"
    # The server is; which threads were open before is looked at in the moment after.
    eventually(lambda: service.show("StatusText") == "ready", what="a word of it")
    assert service.ops("codexd", "status", "--check").endswith("[0]")
    first = service.show("MainPID")
    said = service.ops("codexd", "service", "status")
    assert f"installed=yes loaded=yes running=yes ready=yes pid={first}" in said
    assert said.endswith("\n[0]")

    service.kill("KILL")
    eventually(lambda: service.show("MainPID") not in (first, "0"), what="another daemon")
    eventually(
        lambda: service.ops("codexd", "status", "--check").endswith("[0]"), what="a ready server"
    )
    assert service.show("NRestarts") == "1"

    assert "codexd stopped" in service.ops("codexd", "stop")
    eventually(lambda: service.show("ActiveState") == "inactive", what="the end of the service")
    assert service.show("Result") == "success"
    assert service.show("NRestarts") == "1"

    # What can be seen before is said before, and nothing is touched.
    refused = service.ops("install-systemd.sh", "--server-cwd", "/no/such")
    assert 'codexd: The server working directory "/no/such" does not exist' in refused
    assert refused.endswith("[1]")
    assert service.show("ActiveState") == "inactive"

    # A configuration that cannot be is tried once.
    service.drop_in("Environment=BAA_CODEXD_MODE=sideways")
    broken = service.ops("install-systemd.sh", "--node-id", "other")
    assert "started codexd.service" not in broken
    assert broken.endswith("[1]")
    assert service.show("ActiveState") == "failed"
    assert service.show("ExecMainStatus") == "2"
    assert service.show("NRestarts") == "0"
    said = service.ops("codexd", "service", "status")
    assert "loaded=yes running=no" in said
    # There is no journal in here.
    assert "exit-code, code 2: a setting that cannot be" in said
    assert said.endswith("[3]")

    assert "not installed any more" in service.ops("uninstall-systemd.sh")
    assert service.show("LoadState") == "not-found"


def test_a_daemon_that_hangs_is_replaced(service: Service) -> None:
    service.ops("install-systemd.sh")
    first = service.show("MainPID")
    service.kill("STOP")
    eventually(lambda: service.show("MainPID") not in (first, "0"), what="another daemon")
    eventually(
        lambda: service.ops("codexd", "status", "--check").endswith("[0]"), what="a ready server"
    )
    assert service.show("NRestarts") == "1"
