"""The scripts that install and remove the service, with a launchctl and a systemctl of our own."""

from __future__ import annotations

import contextlib
import json
import os
import plistlib
import shlex
import stat
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from codexd import __version__
from codexd.service.seal import seal
from tests.support.checkout import Checkout
from tests.support.waiting import eventually

LABEL = "so.makefile.baa-codexd"
SERVICE = f"gui/{os.getuid()}/{LABEL}"

STAND_IN = shlex.join([sys.executable, "-m", "tests.support.service_process"])
# Loaded or not is a file, which has the pid; bootout takes a moment, as the real one does, and
# answers 36 (in progress) where that is long. Without a login at the screen bootstrap answers 125.
LAUNCHCTL = f"""
loaded="$HOME/loaded"
case $1 in
    print)
        [ -e "$loaded" ] || exit 113
        pid=$(cat "$loaded")
        # One that nobody has reaped yet has ended all the same.
        if kill -0 "$pid" 2>/dev/null && ! grep -qs '^State:.Z' "/proc/$pid/status"; then
            printf '\\tpid = %s\\n' "$pid"
        fi
        ;;
    enable) [ ! -e "$HOME/no-screen" ] || exit 125 ;;
    bootstrap)
        [ ! -e "$HOME/no-screen" ] || exit 125
        [ ! -e "$loaded" ] || exit 5
        {STAND_IN} launchd "$3" </dev/null >/dev/null 2>&1 &
        echo $! >"$loaded"
        ;;
    bootout)
        [ -e "$loaded" ] || exit 3
        kill "$(cat "$loaded")"
        (sleep 0.3; rm "$loaded") >/dev/null 2>&1 &
        [ ! -e "$HOME/slow" ] || exit 36
        ;;
esac
"""
SYSTEMCTL = f"""
active="$HOME/active"
case "$*" in
    *is-enabled*) [ -e "$HOME/enabled" ] ;;
    *is-active*) [ -e "$active" ] ;;
    *MainPID*) if [ -e "$active" ]; then cat "$active"; else echo 0; fi ;;
    *ActiveState*) if [ -e "$HOME/broken" ]; then echo failed; else echo active; fi ;;
    *" enable "*) : >"$HOME/enabled" ;;
    *" restart "*)
        [ ! -e "$active" ] || kill "$(cat "$active")"
        rm -f "$active"
        {STAND_IN} systemd "$HOME/.config/systemd/user/codexd.service" </dev/null >/dev/null 2>&1 &
        [ ! -e "$HOME/broken" ] || exit 1
        echo $! >"$active"
        ;;
    *" disable "*) rm -f "$HOME/enabled" "$active" ;;
esac
"""


@pytest.fixture
def checkout(tmp_path: Path) -> Iterator[Checkout]:
    """A checkout in a place with a name that wants care."""
    made = Checkout(tmp_path / "my repo & co", tmp_path / "home")
    made.fake("launchctl", LAUNCHCTL)
    made.fake("systemctl", SYSTEMCTL)
    made.fake("loginctl", "echo Linger=no")
    made.fake("journalctl", 'echo "codexd: $(cat "$HOME/broken")"')
    yield made
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.environ().get("CALLS") == str(made.calls):
                process.kill()


def changes(calls: list[str]) -> list[str]:
    """The calls that change something."""
    reading = (" print ", " is-enabled ", " is-active ", " show ", "show-user", "journalctl ")
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
        checkout.run("uninstall-launchd.sh")
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

    def test_a_slow_end_is_waited_for(self, checkout: Checkout) -> None:
        checkout.run("install-launchd.sh")
        (checkout.home / "slow").touch()
        again = checkout.run("install-launchd.sh", "--node-id", "other")
        assert again.returncode == 0, again.stderr
        done = checkout.run("uninstall-launchd.sh")
        assert done.returncode == 0, done.stderr
        assert not plist_of(checkout).exists()
        assert not (checkout.home / "loaded").exists()

    def test_a_bootout_that_fails_leaves_nothing_for_the_next_login(
        self, checkout: Checkout
    ) -> None:
        checkout.run("install-launchd.sh")
        checkout.fake("launchctl", "[ $1 != bootout ] || exit 5")
        done = checkout.run("uninstall-launchd.sh")
        assert done.returncode == 1
        assert "answered 5" in done.stderr
        assert not plist_of(checkout).exists()

    def test_without_a_login_at_the_screen_it_says_what_to_do(self, checkout: Checkout) -> None:
        (checkout.home / "no-screen").touch()
        done = checkout.run("install-launchd.sh")
        assert done.returncode == 1
        assert "started" not in done.stdout
        for way in ("Log in there", "automatic login", "LaunchDaemon"):
            assert way in done.stderr
        assert plist_of(checkout).exists()

    def test_one_that_does_not_come_up_is_told_in_codexds_own_words(
        self, checkout: Checkout
    ) -> None:
        (checkout.home / "broken").write_text("The disk is made of cheese.")
        done = checkout.run("install-launchd.sh")
        assert done.returncode == 1
        assert "started" not in done.stdout
        assert "codexd: The disk is made of cheese." in done.stderr.splitlines()

    def test_a_directory_that_macos_closes_is_warned_of(self, checkout: Checkout) -> None:
        place = checkout.home / "Documents/repo"
        place.mkdir(parents=True)
        done = checkout.run("install-launchd.sh", "--repo-root", str(place))
        assert done.returncode == 0, done.stderr
        assert f"may keep launchd jobs out of {place};" in done.stderr
        assert "Full Disk Access" in done.stderr

    def test_the_process_type_can_be_chosen(self, checkout: Checkout) -> None:
        assert checkout.run("install-launchd.sh", "--process-type", "Standard").returncode == 0
        assert plistlib.loads(plist_of(checkout).read_bytes())["ProcessType"] == "Standard"
        assert checkout.run("install-systemd.sh", "--process-type", "Standard").returncode == 1

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
        assert not (checkout.home / "loaded").exists()
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

    def test_one_that_does_not_come_up_is_told_in_codexds_own_words(
        self, checkout: Checkout
    ) -> None:
        (checkout.home / "broken").write_text("The disk is made of cheese.")
        done = checkout.run("install-systemd.sh")
        assert done.returncode == 1
        assert "started" not in done.stdout
        assert "codexd: The disk is made of cheese." in done.stderr.splitlines()

    def test_what_systemctl_says_is_not_hidden(self, checkout: Checkout) -> None:
        checkout.fake("systemctl", "echo 'Failed to connect to bus' >&2; exit 1")
        done = checkout.run("install-systemd.sh")
        assert done.returncode != 0
        assert "Failed to connect to bus" in done.stderr
        assert "log in as the user" in done.stderr
        assert not unit_of(checkout).exists()

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


class TestBefore:
    """What is looked at before anything is touched."""

    def test_a_daemon_in_a_terminal_is_named(self, checkout: Checkout) -> None:
        command = [*shlex.split(STAND_IN), "launchd", str(plist_of(checkout))]
        plist_of(checkout).parent.mkdir(parents=True)
        plist_of(checkout).write_text(checkout.run("codexd", "render-plist").stdout)
        with checkout.running(command) as process:
            lock = checkout.root / "state/codexd/daemon.lock"
            eventually(
                lambda: lock.exists() and str(process.pid) in lock.read_text(), what="a daemon"
            )
            checkout.taken_calls()
            for script in ("install-launchd.sh", "install-systemd.sh"):
                done = checkout.run(script, "--force")
                assert done.returncode == 1
                assert f"as pid {process.pid}" in done.stderr
                assert "codexd stop --state-dir" in done.stderr
            assert changes(checkout.taken_calls()) == []

    @pytest.mark.parametrize("kind", ["launchd", "systemd"])
    def test_a_command_that_the_service_would_not_find(self, checkout: Checkout, kind: str) -> None:
        checkout.fake("my-codex")
        done = checkout.run(f"install-{kind}.sh", "--server-command", "my-codex")
        assert done.returncode == 1
        assert '"my-codex" is not on PATH' in done.stderr
        assert "PATH of the service" in done.stderr
        assert changes(checkout.taken_calls()) == []
        assert list(checkout.home.iterdir()) == []

    @pytest.mark.parametrize("kind", ["launchd", "systemd"])
    def test_sudo_would_make_it_roots(self, checkout: Checkout, kind: str) -> None:
        checkout.fake("id", "echo 0")
        checkout.more_environ["SUDO_USER"] = "me"
        for script in (f"install-{kind}.sh", f"uninstall-{kind}.sh"):
            done = checkout.run(script)
            assert done.returncode == 1
            assert "as me, without sudo" in done.stderr
        assert list(checkout.home.iterdir()) == []

    @pytest.mark.parametrize("kind", ["launchd", "systemd"])
    def test_a_file_that_was_edited_is_not_lost(self, checkout: Checkout, kind: str) -> None:
        checkout.run(f"install-{kind}.sh")
        path = plist_of(checkout) if kind == "launchd" else unit_of(checkout)
        edited = path.read_text().replace("mini-main", "my-own")
        path.write_text(edited)
        done = checkout.run(f"install-{kind}.sh")
        assert done.returncode == 1
        assert f"{path} was edited" in done.stderr
        assert path.read_text() == edited
        done = checkout.run(f"install-{kind}.sh", "--force")
        assert done.returncode == 0, done.stderr
        assert "my-own" not in path.read_text()
        (copy,) = path.parent.glob(f"{path.name}.edited-*")
        assert copy.read_text() == edited


class TestCommand:
    """`codexd service`, without the scripts."""

    @pytest.mark.parametrize("kind", ["launchd", "systemd"])
    def test_from_install_to_uninstall(self, checkout: Checkout, kind: str) -> None:
        def service(*words: str) -> tuple[int, str]:
            done = checkout.run("codexd", "service", *words, "--manager", kind)
            return done.returncode, done.stdout + done.stderr

        path = plist_of(checkout) if kind == "launchd" else unit_of(checkout)
        code, said = service("status")
        assert (code, "installed=no loaded=no running=no" in said) == (3, True)

        checkout.more_environ["CODEX_HOME"] = str(checkout.home)
        checkout.more_environ["OPENAI_API_KEY"] = "very-secret"
        code, said = service("install", "--dry-run")
        assert code == 0
        assert f"would write: {path}" in said
        assert f"CODEX_HOME={checkout.home}" in said
        assert "OPENAI_API_KEY" in said
        assert "very-secret" not in said
        # The file itself is shown, too.
        assert f"    {'<key>CODEX_HOME</key>' if kind == 'launchd' else 'WorkingDirectory='}" in (
            said.replace("      <key>", "    <key>")
        )
        assert list(checkout.home.iterdir()) == []

        code, said = service("install")
        assert code == 0, said
        assert "started" in said
        code, said = service("status")
        assert code == 3, "the stand-in has no hub"
        assert f"installed=yes loaded=yes running=yes ready=no pid={self.pid(checkout)}" in said
        assert f"version={__version__} file={path}" in said
        assert "was edited" not in said

        path.write_text(path.read_text().replace("mini-main", "my-own"))
        assert "its file was edited" in service("status")[1]
        assert f"would copy: {path}" in service("uninstall", "--dry-run")[1]
        path.write_bytes(seal("\n".join(path.read_text().splitlines()[:-1]), "# ", ""))
        path.write_text(path.read_text().replace(f"codexd {__version__}", "codexd 0.0.1"))
        assert "another codexd has installed it" in service("status")[1]

        assert service("uninstall")[0] == 0
        assert not path.exists()
        assert service("status")[0] == 3

    def pid(self, checkout: Checkout) -> str:
        """Of the process that stands for the service."""
        place = next(p for name in ("loaded", "active") if (p := checkout.home / name).exists())
        return place.read_text().strip()

    @pytest.mark.parametrize("kind", ["launchd", "systemd"])
    def test_what_ended_is_told_in_its_own_words(self, checkout: Checkout, kind: str) -> None:
        (checkout.home / "broken").write_text("The disk is made of cheese.")
        checkout.run(f"install-{kind}.sh")

        def told() -> list[str]:
            done = checkout.run("codexd", "service", "status", "--manager", kind)
            assert done.returncode == 3
            lines = done.stdout.splitlines()
            return [line for line in lines if line == "codexd: The disk is made of cheese."]

        # It may be on its way to its end still.
        eventually(told, what="its own words")
        (checkout.root / "ops/codexd").rename(checkout.root / "ops/gone")
        done = checkout.run("gone", "service", "status", "--manager", kind, "--json")
        assert "is gone" in json.loads(done.stdout)["reason"]

    @pytest.mark.parametrize(
        "words",
        [
            ("uninstall", "--node-id", "x"),
            ("uninstall", "--force"),
            ("status", "--dry-run"),
            ("install", "--json"),
            ("sideways",),
        ],
    )
    def test_what_does_not_go_together(self, checkout: Checkout, words: tuple[str, ...]) -> None:
        done = checkout.run("codexd", "service", *words)
        assert done.returncode == 2
        assert done.stderr.count("\n") == 1
        assert list(checkout.home.iterdir()) == []

    def test_a_machine_without_the_manager_is_told(self, checkout: Checkout) -> None:
        (checkout.fakes / "launchctl").unlink()
        done = checkout.run("install-launchd.sh")
        assert done.returncode == 1
        assert "There is no launchctl on PATH" in done.stderr
        assert list(checkout.home.iterdir()) == []


@pytest.mark.parametrize("kind", ["launchd", "systemd"])
def test_help_and_what_is_not_an_option(checkout: Checkout, kind: str) -> None:
    for script in (f"install-{kind}.sh", f"uninstall-{kind}.sh"):
        shown = checkout.run(script, "--help")
        assert shown.returncode == 0
        assert shown.stdout.startswith(f"Usage: {script}")
        assert checkout.run(script, "--no-such-option").returncode != 0
    assert checkout.run(f"uninstall-{kind}.sh", "--home").returncode == 1
    assert changes(checkout.taken_calls()) == []


def test_byte_code_is_kept_where_python_is_told_to_keep_none(checkout: Checkout) -> None:
    program = checkout.root / ".venv/bin/codexd"
    program.write_text("#!/bin/sh\n")
    package = checkout.root / "codexd"
    package.mkdir()
    module = package / "one.py"
    module.write_text("ONE = 1\n")
    checkout.run("codexd")
    # There Python does it by itself.
    assert not list(package.rglob("*.pyc"))
    checkout.more_environ["PYTHONDONTWRITEBYTECODE"] = "1"
    assert checkout.run("codexd").returncode == 0
    (first,) = package.rglob("*.pyc")
    before = first.stat()
    checkout.run("codexd")
    assert first.stat().st_ino == before.st_ino
    later = (checkout.root / ".venv/.compiled").stat().st_mtime + 5
    module.write_text("ONE = 2\n")
    os.utime(module, (later, later))
    checkout.run("codexd")
    assert first.stat().st_ino != before.st_ino
