"""Where a spare listens, and how its socket comes by the endpoint's name."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from codexd.child.beside import SocketBeside
from codexd.config import resolve
from codexd.link.endpoint import arguments_at, child_arguments


@dataclass
class Server:
    """Listens as codex does: at the name itself, or behind a link there."""

    path: Path
    vendor: Path | None
    listening: socket.socket = field(default_factory=lambda: socket.socket(socket.AF_UNIX))

    @property
    def real(self) -> Path:
        return self.path if self.vendor is None else self.vendor / f"of-{self.path.name}"

    def start(self) -> Server:
        self.real.unlink(missing_ok=True)
        self.listening.bind(str(self.real))
        self.listening.listen()
        if self.real != self.path:
            Path(f"{self.real}.lock").touch()
            self.path.unlink(missing_ok=True)
            self.path.symlink_to(self.real)
        return self

    def killed(self) -> None:
        self.listening.close()

    def ends(self) -> None:
        """In order: it takes away what has the names that it knows."""
        self.killed()
        for path in (self.path, self.real, Path(f"{self.real}.lock")):
            path.unlink(missing_ok=True)

    def is_reached_at(self, path: Path) -> bool:
        with socket.socket(socket.AF_UNIX) as client:
            try:
                client.connect(str(path))
            except OSError:
                return False
            self.listening.settimeout(0.05)
            with contextlib.suppress(TimeoutError):
                self.listening.accept()[0].close()
                return True
        return False


class Place:
    def __init__(self, root: Path, *, linked: bool) -> None:
        self.root = root
        self.vendor = root / "vendor" if linked else None
        for name in ("vendor", "run", "users"):
            (root / name).mkdir()
        self.endpoint = root / "users" / "s"
        self.beside = SocketBeside(str(self.endpoint), str(root / "run"))
        self.servers: list[Server] = []

    def start(self, path: Path) -> Server:
        self.servers.append(Server(path, self.vendor).start())
        return self.servers[-1]

    def server(self) -> Server:
        return self.start(self.endpoint)

    def spare(self) -> Server:
        self.beside.prepare()
        return self.start(Path(self.beside.path))

    def files(self) -> list[str]:
        return sorted(
            os.path.relpath(os.path.join(directory, name), self.root)
            for directory, _, names in os.walk(self.root)
            for name in names
        )


@pytest.fixture(params=[True, False], ids=["linked", "plain"])
def place(request: pytest.FixtureRequest) -> Iterator[Place]:
    # A short path: sockets are below it.
    root = Path(tempfile.mkdtemp(prefix="sb-", dir="/tmp"))
    place = Place(root, linked=request.param)
    yield place
    for server in place.servers:
        server.killed()
    shutil.rmtree(root)


@pytest.mark.parametrize("way", ["killed", "ends"])
def test_whoever_connects_to_the_endpoint_finds_the_spare_then(place: Place, way: str) -> None:
    present = place.server()
    for _ in range(3):
        spare = place.spare()
        assert spare.path != present.path
        assert not spare.is_reached_at(place.endpoint)
        getattr(present, way)()
        place.beside.server_ended()
        place.beside.come_forth()
        assert spare.is_reached_at(place.endpoint)
        # On disk as ever: the link leads where it did, so that a fresh server starts there.
        if place.vendor is not None:
            assert os.readlink(place.endpoint) == str(place.vendor / "of-s")
        present = spare
    getattr(present, way)()
    place.beside.server_ended()
    left = [name for name in place.files() if not name.endswith(".lock")]
    assert left == []


def test_a_spare_that_was_killed_leaves_nothing(place: Place) -> None:
    server = place.server()
    before = place.files()
    place.spare().killed()
    assert place.files() != before
    place.beside.clear()
    assert place.files() == before
    assert server.is_reached_at(place.endpoint)


def test_what_a_promoted_one_never_made_is_left_alone(place: Place) -> None:
    server, spare = place.server(), place.spare()
    server.killed()
    place.beside.server_ended()
    place.beside.come_forth()
    spare.killed()
    # Somebody else came before circusd saw the end.
    other = place.server()
    place.beside.server_ended()
    assert other.is_reached_at(place.endpoint)


def _nothing_was_ever_there(place: Place) -> None:
    place.spare()


def _somebody_listens(place: Place) -> None:
    place.server()
    place.spare()


def _somebody_takes_datagrams(place: Place) -> None:
    server = place.server()
    place.spare()
    server.killed()
    server.real.unlink()
    server.listening = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    server.listening.bind(str(server.real))


def _it_is_no_socket(place: Place) -> None:
    server = place.server()
    place.spare()
    server.killed()
    server.real.unlink()
    server.real.write_text("kept")


def _it_leads_elsewhere(place: Place) -> None:
    place.server().killed()
    place.spare()
    place.endpoint.unlink()
    place.endpoint.symlink_to(place.root / "elsewhere")


def _its_socket_is_gone(place: Place) -> None:
    place.server().killed()
    place.spare().real.unlink()


@pytest.mark.parametrize(
    "happens",
    [
        _nothing_was_ever_there,
        _somebody_listens,
        _somebody_takes_datagrams,
        _it_is_no_socket,
        _it_leads_elsewhere,
        _its_socket_is_gone,
    ],
)
def test_what_is_no_dead_servers_is_not_taken(
    place: Place, happens: Callable[[Place], None]
) -> None:
    happens(place)
    before = place.files()
    with pytest.raises(OSError, match="Errno") as caught:
        place.beside.come_forth()
    assert caught.value.strerror
    assert place.files() == before


@pytest.mark.parametrize("place", [True], indirect=True)
def test_what_a_spare_left_stays_with_its_lock_where_somebody_is_there(place: Place) -> None:
    spare = place.spare()
    spare.killed()
    spare.real.unlink()
    spare.listening = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    spare.listening.bind(str(spare.real))
    place.beside.clear()
    assert spare.real.exists()
    assert Path(f"{spare.real}.lock").exists()


@pytest.mark.parametrize("place", [True], indirect=True)
def test_a_link_that_cannot_be_made_changes_nothing(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    server, spare = place.server(), place.spare()
    server.ends()

    def refuse(*_: str) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "symlink", refuse)
    with pytest.raises(PermissionError):
        place.beside.come_forth()
    assert spare.is_reached_at(spare.path)


def test_a_directory_in_the_way_is_told_and_kept(place: Place) -> None:
    Path(place.beside.path).mkdir()
    with pytest.raises(OSError, match=r"spare0\.sock"):
        place.beside.prepare()


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        (["app-server"], ["app-server"]),
        (["app-server", "--listen", "unix:///s", "-c", "a=1"], ["app-server", "-c", "a=1"]),
        (["--listen=unix:///s", "app-server"], ["app-server"]),
        (["app-server", "--listen"], ["app-server"]),
    ],
)
def test_the_arguments_of_a_spare_are_the_servers_but_for_where_it_listens(
    given: list[str], kept: list[str]
) -> None:
    server = resolve(
        {"repo_root": "/r", "server_endpoint": "unix:///s", "server_args": given},
        {},
        cwd="/",
    ).server
    assert arguments_at(server, "/run/spare0.sock") == [
        *kept,
        "--listen",
        "unix:///run/spare0.sock",
    ]
    assert "unix:///run/spare0.sock" not in child_arguments(server)
