from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from tests.support.daemon import DaemonBox
from tests.support.hub_fixtures import make_room, schemas

__all__ = ["make_box", "make_room", "schemas"]

MakeBox = Callable[..., DaemonBox]

# How long an example takes depends on who else works on the machine: no test fails for it.
settings.register_profile("codexd", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("codexd")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What takes longest begins first: else one worker is left with it when the others are done."""
    items.sort(key=lambda item: item.get_closest_marker("long") is None)


@pytest.fixture(scope="session", autouse=True)
def no_settings_of_the_developer(tmp_path_factory: pytest.TempPathFactory) -> None:
    """No test reads the codexd.toml of whoever runs it, or finds their daemons."""
    os.environ["XDG_CONFIG_HOME"] = str(tmp_path_factory.mktemp("config"))
    os.environ["XDG_STATE_HOME"] = str(tmp_path_factory.mktemp("state"))


@pytest.fixture
def make_box(tmp_path: Path) -> Iterator[MakeBox]:
    """Makes boxes for daemons; ends every process of theirs after the test."""
    boxes: list[DaemonBox] = []

    def make(*flags: str, env: dict[str, str] | None = None, name: str = "repo") -> DaemonBox:
        root = tmp_path / name
        root.mkdir(exist_ok=True)
        boxes.append(DaemonBox(root, *flags, env=env))
        return boxes[-1]

    yield make
    for box in boxes:
        box.clean_up()
