"""How long whoever sent a wrong token waits."""

from __future__ import annotations

from codexd.api import penalties
from codexd.api.penalties import Penalties


def test_each_wrong_token_costs_twice_as_much_and_is_forgotten() -> None:
    table = Penalties()
    waits = [table.wrong("a", now) for now in range(8)]
    assert waits == [0.25, 0.5, 1, 2, 4, 5, 5, 5]
    assert table.wrong("b", 8) == 0.25
    assert table.wrong("a", 8) == 5
    assert table.wrong("a", 69) == 0.25
    assert table.wrong("a", 129) == 0.5


def test_no_number_of_addresses_fills_the_memory() -> None:
    table = Penalties()
    for number in range(penalties._ADDRESSES * 2):
        table.wrong(str(number), 0)
    assert len(table._seen) == penalties._ADDRESSES
    # Those that came last are remembered, however many came before.
    assert table.wrong(str(penalties._ADDRESSES * 2 - 1), 1) == 0.5
    assert table.wrong("0", 1) == 0.25
