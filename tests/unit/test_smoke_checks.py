from __future__ import annotations

from pathlib import Path

from codexd.cli.smoke import _Before, _checks
from codexd.store.snapshot import read_snapshot
from tests.support.memory import config_at


def test_what_does_not_work_is_named(tmp_path: Path) -> None:
    config = config_at(tmp_path)
    Path(config.paths.logs_dir).mkdir(parents=True)
    # What an earlier run wrote proves nothing.
    Path(config.paths.stderr_log_path).write_text("codexd smoke stderr\n")
    checks = _checks(config, read_snapshot(config), _Before(config))
    assert {check.name: (check.status, check.detail) for check in checks} == {
        "structured_event_log": ("failed", f"missing: {config.paths.structured_event_log_path}"),
        "stdout_log": ("failed", f"missing: {config.paths.stdout_log_path}"),
        "stderr_log": ("failed", f"without codexd smoke stderr: {config.paths.stderr_log_path}"),
        "daemon_state": ("failed", config.paths.daemon_state_path),
        "recent_event_cache": ("failed", "0 cached events"),
        "session_registry": ("failed", "0 recorded sessions"),
    }


def test_a_log_that_is_another_file_now_counts_whole(tmp_path: Path) -> None:
    config = config_at(tmp_path)
    log = Path(config.paths.stdout_log_path)
    log.parent.mkdir(parents=True)
    # The length of a link says nothing of a log.
    log.symlink_to("/nowhere/at/all/is/such/a/file")
    before = _Before(config)
    log.unlink()
    log.write_text("codexd smoke ready\ncodexd smoke done\n")
    assert before.added(str(log)) == "codexd smoke ready\ncodexd smoke done\n"
    before = _Before(config)
    log.rename(log.with_suffix(".log.1"))
    log.write_text("x" * 100)
    assert before.added(str(log)) == "x" * 100


def test_of_a_log_that_stays_what_was_added_counts(tmp_path: Path) -> None:
    config = config_at(tmp_path)
    log = Path(config.paths.stdout_log_path)
    log.parent.mkdir(parents=True)
    log.write_text("codexd smoke done\n")
    before = _Before(config)
    assert before.added(str(log)) == ""
    with log.open("a") as file:
        file.write("now\n")
    assert before.added(str(log)) == "now\n"
