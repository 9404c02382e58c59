"""Token files: made for this user alone, and not believed where others could know them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from codexd.config import resolve
from codexd.store import token_file
from codexd.store.token_file import BadToken


def test_one_is_made_where_there_is_none_and_stays(tmp_path: Path) -> None:
    path = tmp_path / "new" / "token"
    token_file.make(str(path))
    token = token_file.read(str(path))
    # 256 bits in the URL's own base64.
    assert len(token) == 43
    assert path.stat().st_mode & 0o777 == 0o600
    token_file.make(str(path))
    assert token_file.read(str(path)) == token
    assert os.listdir(path.parent) == ["token"]


def test_another_takes_its_place_whole(tmp_path: Path) -> None:
    real, link = tmp_path / "real", tmp_path / "link"
    real.write_text("x" * 20)
    real.chmod(0o644)
    link.symlink_to(real)
    token_file.rotate(str(link))
    assert link.is_symlink()
    assert real.stat().st_mode & 0o777 == 0o600
    assert token_file.read(str(link)) == real.read_bytes().strip() != b"x" * 20


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o602, 0o610, 0o777])
def test_one_that_others_can_use_is_refused(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "token"
    token_file.make(str(path))
    path.chmod(mode)
    with pytest.raises(BadToken, match="others") as caught:
        token_file.read(str(path))
    assert str(path) in str(caught.value)
    assert path.read_text().strip() not in str(caught.value)


def test_one_that_its_owner_may_only_read_is_taken(tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_text("\n a-token-of-16-ch \r\n")
    path.chmod(0o400)
    assert token_file.read(str(path)) == b"a-token-of-16-ch"


@pytest.mark.parametrize(
    "text",
    [b"", b"\n", b"too-short", b"two words of a token", b"\xff" * 40, b"a\nb" * 20, b"\0" * 40],
)
def test_what_is_no_token_is_not_taken_for_one(tmp_path: Path, text: bytes) -> None:
    path = tmp_path / "token"
    path.write_bytes(text)
    path.chmod(0o600)
    with pytest.raises(BadToken, match="codexd token --rotate"):
        token_file.read(str(path))


def test_what_is_no_file_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe", 0o600)
    (tmp_path / "dir").mkdir(mode=0o700)
    for name in ("pipe", "dir", "nothing"):
        with pytest.raises(BadToken, match=name):
            token_file.read(str(tmp_path / name))


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_one_of_another_users_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "token"
    token_file.make(str(path))
    os.chown(path, 12345, -1)
    with pytest.raises(BadToken, match="another user"):
        token_file.read(str(path))


def test_one_that_cannot_be_made_is_told_in_a_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for act in (token_file.make, token_file.rotate):
        with pytest.raises(BadToken, match="file") as caught:
            act(str(tmp_path / "file" / "token"))
        assert len(str(caught.value).splitlines()) == 1


def test_no_clone_brings_one() -> None:
    environ = {"HOME": "/home/me", "XDG_STATE_HOME": "/xdg"}

    def place(**flags: str) -> str:
        config = resolve({"repo_root": "/repo", **flags}, environ, cwd="/")
        return token_file.default_path(config.paths, environ)

    assert place().startswith("/xdg/codexd/tokens/")
    assert place(state_dir="/repo/x").startswith("/xdg/codexd/tokens/")
    assert place() != place(state_dir="/repo/x")
    assert place(state_dir="/var/lib/one") == "/var/lib/one/codexd/hub-token"
    assert place(state_dir="/repository") == "/repository/codexd/hub-token"
