"""How many requests the child has in hand at once."""

from __future__ import annotations

from codexd.hub.window import Window


def _fill(window: Window, client: int, now: float = 0.0) -> int:
    """Send for this client as long as it may; how many."""
    sent = 0
    while window.may_send(client):
        window.sent(f"{client}-{now}-{sent}", client, now)
        sent += 1
    return sent


def test_one_client_and_all_together_have_so_many_at_once() -> None:
    window = Window()
    # codex 0.163 drops some of 190 on a pipe.
    assert [_fill(window, client) for client in range(4)] == [32, 32, 0, 0]
    window.done("0-0.0-7")
    window.done("0-0.0-7")
    assert _fill(window, 1) == 0
    assert _fill(window, 2) == 1


def test_what_is_with_the_child_for_a_second_is_at_work_and_leaves_nothing() -> None:
    window = Window()
    for client in range(3):
        _fill(window, client)
    window.grow_old(1.0)
    assert not window.may_send(0)
    window.grow_old(1.1)
    assert not any(vars(window).values()), "of clients that leave nothing is kept"
    assert _fill(window, 0, 2.0) == 32
    window.clear()
    assert not any(vars(window).values())
