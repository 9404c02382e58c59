from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codexd.config import read_values, resolve
from codexd.settings import DEFAULT, SettingError
from codexd.settings_file import SettingsFile, parse_settings_file, read_settings_file

FILE = """
node_id = "box"
health_misses = 4
hub_default_socket = true
server_args = ["app-server", "-c", "a b"]
logs_dir = "~/logs"
server_command = " "

[repo."/repo"]
node_id = "repo"

[repo."~/other/"]
node_id = "other"
"""


def parse(text: str) -> SettingsFile:
    return parse_settings_file("/etc/x.toml", text.encode(), home="/home/me")


def origins(flags: dict[str, str], environ: dict[str, str], cwd: str = "/repo") -> dict[str, str]:
    values = read_values(flags, environ, cwd=cwd, file=parse(FILE))
    return {name: value.origin for name, value in values.items()}


def test_flags_win_over_environment_and_environment_over_file_and_file_over_default() -> None:
    told = origins({"health_misses": "9"}, {"BAA_NODE_ID": "env", "BAA_LOGS_DIR": ""})
    assert told["health_misses"] == "--health-misses"
    assert told["node_id"] == "BAA_NODE_ID"
    assert told["logs_dir"] == "/etc/x.toml: logs_dir"
    assert told["server_command"] == DEFAULT
    assert told["log_backups"] == DEFAULT


def test_the_table_of_a_repository_wins_over_the_top_and_counts_for_no_other() -> None:
    file = parse(FILE)
    assert resolve({}, {}, cwd="/repo", file=file).node_id == "repo"
    assert resolve({"repo_root": "../repo"}, {}, cwd="/x", file=file).node_id == "repo"
    assert resolve({}, {}, cwd="/home/me/other", file=file).node_id == "other"
    assert resolve({}, {}, cwd="/repo/below", file=file).node_id == "box"


def test_values_are_read_as_their_kind() -> None:
    config = resolve({}, {}, cwd="/x", file=parse(FILE))
    assert config.policy.health_misses == 4
    assert config.policy.hub_default_socket is True
    assert config.server.child_args == ["app-server", "-c", "a b"]
    assert config.paths.logs_dir == "/home/me/logs/codexd"


def test_arguments_of_the_command_line_are_added_to_those_of_the_file() -> None:
    file = parse(FILE)
    values = read_values({"server_args": ("x",)}, {}, cwd="/", file=file)
    assert values["server_args"].value == ["app-server", "-c", "a b", "x"]
    assert values["server_args"].origin == "/etc/x.toml: server_args and --server-arg"
    alone = read_values({"server_args": ("x",)}, {}, cwd="/")
    assert (alone["server_args"].value, alone["server_args"].origin) == (["x"], "--server-arg")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("colour = 1", "/etc/x.toml: unknown key 'colour'"),
        ("[codexd]\nnode_id = 'x'", "unknown key 'codexd'"),
        ("health_misses = 0", 'Invalid value "0" (/etc/x.toml: health_misses)'),
        ("health_misses = 'many'", 'Invalid integer value "many" (/etc/x.toml: health_misses)'),
        ("health_misses = [1]", "health_misses cannot be '[1]'"),
        ("health_misses = 1.5", 'Invalid integer value "1.5"'),
        ("health_misses = inf", 'Invalid integer value "inf"'),
        ("node_id = 1979-05-27", "node_id cannot be '1979-05-27'"),
        ("server_args = 'app-server'", "server_args cannot be 'app-server'"),
        ('node_id = "a\\u0000b"', "it holds a NUL"),
        ('server_args = ["a\\u0000b"]', "without NUL"),
        ("server_args = [1]", "server_args cannot be '[1]'"),
        ("mode = 'x'", 'Unsupported codexd mode "x" (/etc/x.toml: mode)'),
        ("state_dir = 'state'", "state_dir: 'state' must be an absolute path"),
        ("[repo.'a/b']", "'a/b' must be an absolute path"),
        ("repo = 1", "repo must be a table"),
        ("[repo]\n'/x' = 1", '/etc/x.toml [repo."/x"] must be a table'),
        ("[repo.'/x']\nrepo_root = '/y'", "repo_root is the name of the table itself"),
        ("[repo.'/x']\nmode = 'y'", '(/etc/x.toml [repo."/x"]: mode)'),
        ("x", "/etc/x.toml is no TOML"),
        ("x=" + "[" * 5000, "/etc/x.toml is no TOML"),
        ("\udcff", "/etc/x.toml is no TOML"),
    ],
)
def test_what_cannot_be_used_is_named_in_one_line(text: str, says: str) -> None:
    with pytest.raises(SettingError) as caught:
        parse_settings_file("/etc/x.toml", text.encode("utf-8", "surrogateescape"), home="/h")
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def complaint(data: bytes) -> str:
    try:
        parse_settings_file("/x", data, home="/h")
    except SettingError as error:
        return str(error)
    return ""


@given(st.binary() | st.text().map(str.encode))
def test_whatever_a_file_holds_is_read_or_refused_in_one_line(data: bytes) -> None:
    assert len(complaint(data).splitlines()) <= 1


def read(tmp_path: Path, **environ: str) -> SettingsFile | None:
    return read_settings_file(None, {"HOME": str(tmp_path), **environ})


def write(path: Path, text: str = "node_id = 'x'") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o600)
    return path


def test_the_users_own_file_is_found_and_a_named_one_wins(tmp_path: Path) -> None:
    assert read(tmp_path) is None
    write(tmp_path / ".config/codexd/codexd.toml", "node_id = 'home'")
    write(tmp_path / "xdg/codexd/codexd.toml", "node_id = 'xdg'")
    named = write(tmp_path / "named.toml", "node_id = 'named'")
    flagged = write(tmp_path / "flag.toml", "node_id = 'flag'")

    def node(file: SettingsFile | None) -> str:
        return resolve({}, {}, cwd="/", file=file).node_id

    assert node(read(tmp_path)) == "home"
    assert node(read(tmp_path, XDG_CONFIG_HOME=str(tmp_path / "xdg"))) == "xdg"
    assert node(read(tmp_path, XDG_CONFIG_HOME="relative")) == "home"
    environ = {"BAA_CODEXD_CONFIG": str(named)}
    assert node(read(tmp_path, **environ)) == "named"
    assert node(read_settings_file(str(flagged), environ)) == "flag"


def test_without_a_home_there_is_no_file() -> None:
    assert read_settings_file(None, {}) is None
    assert read_settings_file(None, {"HOME": "/", "XDG_CONFIG_HOME": "/dev/null"}) is None


def test_a_file_that_was_named_must_be_there(tmp_path: Path) -> None:
    with pytest.raises(SettingError, match="is not there"):
        read_settings_file(str(tmp_path / "none"), {})


@pytest.mark.parametrize("mode", [0o620, 0o602])
def test_a_file_that_others_can_write_is_refused(tmp_path: Path, mode: int) -> None:
    path = write(tmp_path / "f")
    path.chmod(mode)
    with pytest.raises(SettingError, match="can be written by others"):
        read_settings_file(str(path), {})


def test_what_is_no_file_is_refused_and_hangs_nobody(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo", 0o600)
    with pytest.raises(SettingError, match="is no file"):
        read_settings_file(str(tmp_path / "fifo"), {})
    with pytest.raises(SettingError, match="Is a directory"):
        read_settings_file(str(tmp_path), {})
    with pytest.raises(SettingError, match="larger than"):
        read_settings_file(str(write(tmp_path / "big", "#" * (2 << 20))), {})


def test_a_link_is_followed_and_one_that_leads_nowhere_is_told(tmp_path: Path) -> None:
    target = write(tmp_path / "dotfiles/codexd.toml", "node_id = 'linked'")
    link = tmp_path / ".config/codexd/codexd.toml"
    link.parent.mkdir(parents=True)
    link.symlink_to(target)
    assert resolve({}, {}, cwd="/", file=read(tmp_path)).node_id == "linked"
    target.unlink()
    with pytest.raises(SettingError, match="leads nowhere"):
        read(tmp_path)


@pytest.mark.parametrize("which", ["beside the link", "beside the file"])
def test_a_file_that_others_can_replace_is_refused(tmp_path: Path, which: str) -> None:
    target = write(tmp_path / "dotfiles/codexd.toml")
    link = tmp_path / "links/codexd.toml"
    link.parent.mkdir()
    link.symlink_to(target)
    place = link.parent if which == "beside the link" else target.parent
    place.chmod(0o777)
    with pytest.raises(SettingError, match=f"can be replaced by others, who may write to {place}"):
        read_settings_file(str(link), {})
    # As in /tmp: others may add files there, and replace none.
    place.chmod(0o1777)
    assert read_settings_file(str(link), {}) is not None
