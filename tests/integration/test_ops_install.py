"""The scripts that install and remove the service, with a launchctl and a systemctl of our own."""

from __future__ import annotations

import os
import plistlib
import stat
from pathlib import Path

import pytest

from tests.support.checkout import Checkout

LABEL = "so.makefile.baa-codexd"
SERVICE = f"gui/{os.getuid()}/{LABEL}"

# Loaded or not is a file; bootout takes a moment, as the real one does.
LAUNCHCTL = """
loaded="$HOME/loaded"
case $1 in
    print) [ -e "$loaded" ] ;;
    bootstrap) [ ! -e "$loaded" ] || exit 5; : >"$loaded" ;;
    bootout) [ -e "$loaded" ] || exit 3; (sleep 0.2; rm "$loaded") >/dev/null 2>&1 & ;;
esac
"""
SYSTEMCTL = """
case "$*" in
    *is-enabled*) [ -e "$HOME/enabled" ] ;;
    *is-active*) [ -e "$HOME/active" ] ;;
    *" enable "*) : >"$HOME/enabled" ;;
    *" restart "*) : >"$HOME/active" ;;
    *" disable "*) rm -f "$HOME/enabled" "$HOME/active" ;;
esac
"""


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    """A checkout in a place with a name that wants care."""
    made = Checkout(tmp_path / "my repo & co", tmp_path / "home")
    made.fake("launchctl", LAUNCHCTL)
    made.fake("systemctl", SYSTEMCTL)
    made.fake("loginctl", "echo Linger=no")
    return made


def changes(calls: list[str]) -> list[str]:
    """The calls that change something."""
    reading = (" print ", " is-enabled ", " is-active ", "show-user")
    return [call for call in calls if not any(word in f"{call} " for word in reading)]


def plist_of(checkout: Checkout, label: str = LABEL) -> Path:
    return checkout.home / f"Library/LaunchAgents/{label}.plist"


def unit_of(checkout: Checkout) -> Path:
    return checkout.home / ".config/systemd/user/codexd.service"


def written(path: Path) -> tuple[int, int]:
    """Which file it is and when it was written."""
    status = path.stat()
    return (status.st_ino, status.st_mtime_ns)


class TestLaunchd:
    def test_installs_and_starts(self, checkout: Checkout) -> None:
        checkout.fake("plutil")
        done = checkout.run("install-launchd.sh", "--node-id", "it's $HOME <1>", "--server-arg=a b")
        assert done.returncode == 0, done.stderr
        plist = plist_of(checkout)
        assert stat.S_IMODE(plist.stat().st_mode) == 0o600
        parsed = plistlib.loads(plist.read_bytes())
        assert parsed["ProgramArguments"] == [str(checkout.root / "ops/codexd"), "start"]
        assert parsed["WorkingDirectory"] == str(checkout.root)
        assert parsed["EnvironmentVariables"]["HOME"] == str(checkout.home)
        assert parsed["EnvironmentVariables"]["BAA_NODE_ID"] == "it's $HOME <1>"
        assert parsed["EnvironmentVariables"]["BAA_CODEXD_SERVER_ARGS"] == '["a b"]'
        logs = Path(parsed["StandardOutPath"]).parent
        assert logs == checkout.root / "logs/launchd"
        assert stat.S_IMODE(logs.stat().st_mode) == 0o700
        assert changes(checkout.taken_calls()) == [
            f"plutil -lint {plist}.new",
            f"launchctl enable {SERVICE}",
            f"launchctl bootstrap gui/{os.getuid()} {plist}",
            f"launchctl kickstart {SERVICE}",
        ]

    def test_again_with_nothing_new_changes_nothing(self, checkout: Checkout) -> None:
        checkout.run("install-launchd.sh")
        before = written(plist_of(checkout))
        checkout.taken_calls()
        done = checkout.run("install-launchd.sh")
        assert done.returncode == 0
        assert "has not changed" in done.stdout
        assert changes(checkout.taken_calls()) == []
        assert written(plist_of(checkout)) == before

    def test_a_change_restarts_it_once_the_old_one_is_gone(self, checkout: Checkout) -> None:
        checkout.run("install-launchd.sh")
        checkout.taken_calls()
        done = checkout.run("install-launchd.sh", "--node-id", "other")
        assert done.returncode == 0, done.stderr
        assert [call.split()[1] for call in changes(checkout.taken_calls())] == [
            "bootout",
            "enable",
            "bootstrap",
            "kickstart",
        ]

    def test_one_that_was_booted_out_is_started_again(self, checkout: Checkout) -> None:
        checkout.run("install-launchd.sh")
        (checkout.home / "loaded").unlink()
        checkout.taken_calls()
        assert checkout.run("install-launchd.sh").returncode == 0
        assert (checkout.home / "loaded").exists()

    def test_a_dry_run_changes_nothing(self, checkout: Checkout) -> None:
        done = checkout.run("install-launchd.sh", "--dry-run", "--label", "org.x")
        assert done.returncode == 0, done.stderr
        assert f"would write: {plist_of(checkout, 'org.x')}" in done.stdout
        assert f"would run: launchctl kickstart gui/{os.getuid()}/org.x" in done.stdout
        assert changes(checkout.taken_calls()) == []
        assert list(checkout.home.iterdir()) == []
        assert not (checkout.root / "logs").exists()

    def test_a_plist_that_plutil_refuses_is_not_installed(self, checkout: Checkout) -> None:
        checkout.fake("plutil", "exit 1")
        done = checkout.run("install-launchd.sh")
        assert done.returncode == 1
        assert list(plist_of(checkout).parent.iterdir()) == []
        assert changes(checkout.taken_calls()) == [f"plutil -lint {plist_of(checkout)}.new"]

    def test_a_bad_option_is_said_and_nothing_is_done(self, checkout: Checkout) -> None:
        done = checkout.run("install-launchd.sh", "--mode", "sideways")
        assert done.returncode == 2
        assert done.stderr.count("\n") == 1
        assert "sideways" in done.stderr
        assert list(checkout.home.iterdir()) == []
        assert changes(checkout.taken_calls()) == []

    def test_uninstall_undoes_it_and_may_be_run_again(self, checkout: Checkout) -> None:
        checkout.run("install-launchd.sh")
        checkout.taken_calls()
        dry = checkout.run("uninstall-launchd.sh", "--dry-run")
        assert f"would run: launchctl bootout {SERVICE}" in dry.stdout
        assert changes(checkout.taken_calls()) == []
        assert plist_of(checkout).exists()
        assert checkout.run("uninstall-launchd.sh").returncode == 0
        assert changes(checkout.taken_calls()) == [f"launchctl bootout {SERVICE}"]
        assert not plist_of(checkout).exists()
        (checkout.home / "loaded").unlink(missing_ok=True)
        assert checkout.run("uninstall-launchd.sh").returncode == 0
        assert changes(checkout.taken_calls()) == []


class TestSystemd:
    def test_installs_and_starts(self, checkout: Checkout) -> None:
        done = checkout.run("install-systemd.sh", "--node-id", "50% $x")
        assert done.returncode == 0, done.stderr
        unit = unit_of(checkout).read_text()
        assert f'ExecStart=:"{checkout.root}/ops/codexd" "start"' in unit
        assert 'Environment="BAA_NODE_ID=50%% $x"' in unit
        assert changes(checkout.taken_calls()) == [
            "systemctl --user daemon-reload",
            "systemctl --user enable codexd.service",
            "systemctl --user restart codexd.service",
        ]
        assert "enable-linger" in done.stdout

    def test_again_with_nothing_new_changes_nothing(self, checkout: Checkout) -> None:
        checkout.run("install-systemd.sh")
        before = written(unit_of(checkout))
        checkout.taken_calls()
        done = checkout.run("install-systemd.sh")
        assert "has not changed" in done.stdout
        assert changes(checkout.taken_calls()) == []
        assert written(unit_of(checkout)) == before

    def test_a_change_restarts_it(self, checkout: Checkout) -> None:
        checkout.run("install-systemd.sh")
        checkout.taken_calls()
        assert checkout.run("install-systemd.sh", "--log-backups", "2").returncode == 0
        assert 'Environment="BAA_CODEXD_LOG_BACKUPS=2"' in unit_of(checkout).read_text()
        assert "systemctl --user restart codexd.service" in checkout.taken_calls()

    def test_a_dry_run_changes_nothing(self, checkout: Checkout) -> None:
        done = checkout.run("install-systemd.sh", "--dry-run")
        assert f"would write: {unit_of(checkout)}" in done.stdout
        assert changes(checkout.taken_calls()) == []
        assert list(checkout.home.iterdir()) == []

    def test_what_systemctl_says_is_not_hidden(self, checkout: Checkout) -> None:
        checkout.fake("systemctl", "echo 'Failed to connect to bus' >&2; exit 1")
        done = checkout.run("install-systemd.sh")
        assert done.returncode != 0
        assert "Failed to connect to bus" in done.stderr

    def test_uninstall_undoes_it_and_may_be_run_again(self, checkout: Checkout) -> None:
        checkout.run("install-systemd.sh")
        checkout.taken_calls()
        assert checkout.run("uninstall-systemd.sh").returncode == 0
        assert changes(checkout.taken_calls()) == [
            "systemctl --user disable --now codexd.service",
            "systemctl --user daemon-reload",
        ]
        assert not unit_of(checkout).exists()
        assert checkout.run("uninstall-systemd.sh").returncode == 0
        assert changes(checkout.taken_calls()) == []


@pytest.mark.parametrize("kind", ["launchd", "systemd"])
def test_help_and_what_is_not_an_option(checkout: Checkout, kind: str) -> None:
    for script in (f"install-{kind}.sh", f"uninstall-{kind}.sh"):
        shown = checkout.run(script, "--help")
        assert shown.returncode == 0
        assert shown.stdout.startswith(f"Usage: {script}")
        assert checkout.run(script, "--no-such-option").returncode != 0
    assert checkout.run(f"uninstall-{kind}.sh", "--home").returncode == 1
    assert changes(checkout.taken_calls()) == []
