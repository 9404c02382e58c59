"""Nothing is said to a server of another user's."""

from __future__ import annotations

import os
import socket
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from codexd.cli.attach import attach_to
from codexd.cli.options import CliError
from codexd.client.circus import call_circus
from codexd.client.errors import DaemonError
from codexd.client.http import ask_hub
from codexd.client.hub_wire import connect
from codexd.config import Config
from codexd.platform.peer import ForeignPeer, require_own_peer
from tests.support.memory import config_at
from tests.support.odd import as_somebody


@pytest.fixture
def place() -> Iterator[Path]:
    """A runtime directory that another user has taken."""
    with tempfile.TemporaryDirectory(dir="/tmp") as directory:
        os.chmod(directory, 0o777)
        yield Path(directory)


class Impostor:
    """Another user's server at ``path``, and what it was told."""

    def __init__(self, path: Path) -> None:
        self.heard = b""
        self._ready, self._done, self._told = os.pipe(), os.pipe(), os.pipe()
        self._thread = threading.Thread(target=as_somebody, args=(lambda: self._serve(path),))

    def _serve(self, path: Path) -> None:
        with socket.socket(socket.AF_UNIX) as serving:
            serving.bind(str(path))
            os.chmod(path, 0o777)
            serving.listen()
            os.write(self._ready[1], b"x")
            connected, _ = serving.accept()
            os.write(self._told[1], connected.recv(1 << 16) or b"(nothing)")
            os.read(self._done[0], 1)

    def __enter__(self) -> Impostor:
        self._thread.start()
        os.read(self._ready[0], 1)
        return self

    def __exit__(self, *_: object) -> None:
        self.heard = os.read(self._told[0], 1 << 16)
        os.write(self._done[1], b"x")
        self._thread.join(10)
        for descriptor in (*self._ready, *self._done, *self._told):
            os.close(descriptor)


def ask(config: Config) -> None:
    assert ask_hub(config.runtime.hub_socket_path) is None


def attach(config: Config) -> None:
    with pytest.raises(CliError, match="served by another user"):
        attach_to(config.runtime.hub_socket_path, 0, 1, lambda: True)


def bridge(config: Config) -> None:
    with pytest.raises(ForeignPeer):
        connect(config.runtime.hub_socket_path)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be another user")
@pytest.mark.parametrize("client", [ask, attach, bridge])
def test_an_impostor_hears_nothing(
    place: Path, tmp_path: Path, client: Callable[[Config], None]
) -> None:
    config = config_at(tmp_path, state_dir=str(place))
    Path(config.runtime.hub_socket_path).parent.mkdir(parents=True)
    for directory in (place / "codexd", place / "codexd" / "run"):
        directory.chmod(0o777)
    with Impostor(Path(config.runtime.hub_socket_path)) as impostor:
        client(config)
    assert impostor.heard == b"(nothing)"


def test_circusd_is_asked_only_where_nobody_else_can_stand(tmp_path: Path) -> None:
    config = config_at(tmp_path)
    place = Path(config.runtime.runtime_dir)
    place.mkdir(parents=True, exist_ok=True)
    place.chmod(0o777)
    try:
        with pytest.raises(DaemonError, match="writable by others"):
            call_circus(config.runtime, "status", timeout_s=1)
    finally:
        place.rmdir()


def test_ones_own_server_is_let_pass() -> None:
    one, other = socket.socketpair()
    with one, other:
        require_own_peer(one)
