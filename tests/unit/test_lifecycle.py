from __future__ import annotations

from itertools import product

import pytest

from codexd.child.lifecycle import (
    ACTIONS,
    STATES,
    TRANSITIONS,
    ChildEvent,
    NoTransition,
    next_status,
)
from codexd.contracts import ChildStatus


def test_every_state_is_reached_from_idle_and_left_again() -> None:
    reached = {"idle"}
    while more := {then for (state, _), then in TRANSITIONS.items() if state in reached} - reached:
        reached |= more
    assert reached == set(STATES)
    assert {state for (state, _), then in TRANSITIONS.items() if then != state} == set(STATES)


def test_every_event_leads_somewhere_and_has_an_action() -> None:
    assert {event for _, event in TRANSITIONS} == set(ChildEvent)
    assert set(ACTIONS) == set(ChildEvent)


@pytest.mark.parametrize(("state", "event"), list(product(STATES, ChildEvent)))
def test_what_is_not_in_the_table_cannot_happen(state: ChildStatus, event: ChildEvent) -> None:
    then = TRANSITIONS.get((state, event))
    if then is not None:
        assert next_status(state, event) == then
        return
    with pytest.raises(NoTransition, match=f"a child that is {state} cannot be {event.value}"):
        next_status(state, event)


def test_an_external_child_is_never_spawned_and_never_ends() -> None:
    ours = {ChildEvent.SPAWNED, ChildEvent.SPAWN_FAILED, ChildEvent.ENDED_WELL}
    assert not {event for state, event in TRANSITIONS if state == "external"} & ours
