"""Fixtures for tests of the hub with the real codex; imported by the root conftest."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from tests.support.hub_room import HubRoom
from tests.support.schema import Schemas

MakeRoom = Callable[..., HubRoom]


@pytest.fixture(scope="session")
def schemas(tmp_path_factory: pytest.TempPathFactory) -> Schemas:
    """What the binary says of its messages."""
    return Schemas(tmp_path_factory.mktemp("schema"))


@pytest.fixture(scope="module")
def make_room(schemas: Schemas) -> Iterator[MakeRoom]:
    """Makes rooms that end with the module, whatever happened."""
    rooms: list[HubRoom] = []

    def make(*flags: str, endpoint: str = "stdio", **config: str) -> HubRoom:
        rooms.append(HubRoom(schemas, *flags, endpoint=endpoint, **config))
        return rooms[-1]

    yield make
    for room in rooms:
        room.close()
