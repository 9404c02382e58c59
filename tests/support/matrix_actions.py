"""What is done to the daemon of a kill matrix, as a table of small actions.

Each draws its arguments beforehand, so that a history can be printed and played again, and says
what of the daemon it may hurt: ``server`` (it is another one after that), ``turns`` (those that
run may be cut), ``rest`` (the server may be stopped for good, as somebody wanted), ``end`` (the
daemon is told to end; told again, it cuts).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Any

from tests.support.matrix_world import SPARE, VICTIMS, World

Arguments = dict[str, Any]

NOTHING: frozenset[str] = frozenset()
SERVER = frozenset({"server"})
TURNS = frozenset({"server", "turns"})
REST = frozenset({"server", "rest"})
END = frozenset({"server", "end"})
WATCHER = "codex-app-server"


@dataclass(frozen=True, slots=True)
class Action:
    """One row: how often it is drawn, with what, what it does and what it may hurt."""

    weight: int
    draw: Callable[[Random], Arguments]
    do: Callable[..., None]
    hurts: Callable[..., frozenset[str]]


@dataclass(frozen=True, slots=True)
class Step:
    """One action with its arguments, and how long nothing is done after it."""

    name: str
    arguments: Arguments
    pause_s: float

    def __str__(self) -> str:
        words = [f"{key}={value}" for key, value in self.arguments.items()]
        return f"{self.name}({', '.join(words)}), {self.pause_s:.3f} s"


# -- signals ---------------------------------------------------------------------------------


def draw_strike(dice: Random) -> Arguments:
    """One process, a pair or all of them; what is stopped wakes before or after it is missed."""
    victims = dice.sample(VICTIMS, dice.choice([1, 1, 1, 2, 2, 3]))
    signame = dice.choice(["SIGKILL", "SIGKILL", "SIGKILL", "SIGTERM", "SIGSTOP"])
    wake_after_s = round(dice.choice([dice.uniform(0.02, 0.3), dice.uniform(1.5, 3.0)]), 3)
    return {"victims": victims, "signame": signame, "wake_after_s": wake_after_s}


def strike(world: World, victims: list[str], signame: str, wake_after_s: float) -> None:
    """Send a signal; a stopped process is woken later."""
    world.strike(victims, signame, wake_after_s)


def strike_hurts(victims: list[str], signame: str, wake_after_s: float) -> frozenset[str]:
    """The plugin can be spared, and a daemon that is ended in order lets the turns end."""
    del wake_after_s
    # Nobody misses it.
    victims = [victim for victim in victims if victim != SPARE]
    if victims in ([], ["plugin"]) or (signame == "SIGSTOP" and "server" not in victims):
        return NOTHING
    return END if victims == ["circusd"] and signame == "SIGTERM" else TURNS


def draw_again(dice: Random) -> Arguments:
    """A moment in the life of the next server: booting, recovering, or just up."""
    return {"after_s": round(dice.uniform(0, 0.4), 3), "times": dice.randint(1, 3)}


def strike_again(world: World, after_s: float, times: int) -> None:
    """Kill the server, and the one that comes after it while it boots or recovers."""
    for _ in range(times + 1):
        process = world.find("server")
        world.strike(["server"], "SIGKILL", 0)
        world.await_new_server(process.pid if process else None, within_s=2)
        time.sleep(after_s)


def draw_start(dice: Random) -> Arguments:
    """How a daemon ends, and how long after the next start its processes are hit."""
    return {
        "signame": dice.choice(["SIGKILL", "SIGTERM"]),
        "again_after_s": round(dice.uniform(0, 0.2), 3),
        "victims": dice.sample(VICTIMS, dice.choice([1, 2])),
        "strike_after_s": round(dice.uniform(0, 1.2), 3),
    }


def strike_start(
    world: World, signame: str, again_after_s: float, victims: list[str], strike_after_s: float
) -> None:
    """End the daemon, start it, and kill some of it while it starts."""
    world.strike(["circusd"], signame, 0)
    time.sleep(again_after_s)
    world.start_daemon()
    time.sleep(strike_after_s)
    world.strike(victims, "SIGKILL", 0)


# -- orders ----------------------------------------------------------------------------------


def draw_order(dice: Random) -> Arguments:
    """One of circusctl's commands."""
    return {"order": dice.choice(["stop", "start", "restart", "restart", "reload", "kill"])}


def circusctl(world: World, order: str) -> None:
    """`codexd ctl ORDER`, which does not wait."""
    world.command("ctl", order, WATCHER)


def circusctl_hurts(order: str) -> frozenset[str]:
    """They all let turns end first."""
    return {"start": NOTHING, "stop": REST}.get(order, SERVER)


def draw_restart(dice: Random) -> Arguments:
    """One of the three ways."""
    return {"how": dice.choice([[], ["--now"], ["--when-idle"], ["--when-idle"]])}


def restart(world: World, how: list[str]) -> None:
    """`codexd restart`, in the background."""
    world.command("restart", *how)


def restart_hurts(how: list[str]) -> frozenset[str]:
    """Only --now cuts."""
    return TURNS if how == ["--now"] else SERVER


def draw_stop(dice: Random) -> Arguments:
    """With or without a drain; the next start comes while it stops, or later."""
    return {
        "how": dice.choice([[], ["--now"], ["--when-idle"]]),
        "start_after_s": round(dice.choice([dice.uniform(0, 0.6), dice.uniform(1, 3)]), 3),
    }


def stop(world: World, how: list[str], start_after_s: float) -> None:
    """`codexd stop`, and a start meanwhile or afterwards."""
    world.command("stop", *how)
    time.sleep(start_after_s)
    world.start_daemon()


def stop_hurts(how: list[str], start_after_s: float) -> frozenset[str]:
    """Only --now cuts."""
    del start_after_s
    return TURNS if how == ["--now"] else END


def draw_second(dice: Random) -> Arguments:
    """Nothing to choose."""
    del dice
    return {}


def second_start(world: World) -> None:
    """`codexd start` beside the daemon that runs, or in place of the one that does not."""
    world.start_daemon()


def _cuts(**_: Any) -> frozenset[str]:
    return TURNS


def _spares(**_: Any) -> frozenset[str]:
    return NOTHING


ACTIONS: dict[str, Action] = {
    "strike": Action(10, draw_strike, strike, strike_hurts),
    "strike again": Action(2, draw_again, strike_again, _cuts),
    "strike start": Action(2, draw_start, strike_start, _cuts),
    "circusctl": Action(3, draw_order, circusctl, circusctl_hurts),
    "restart": Action(4, draw_restart, restart, restart_hurts),
    "stop": Action(2, draw_stop, stop, stop_hurts),
    "second start": Action(1, draw_second, second_start, _spares),
}


def draw_history(dice: Random, *, spare: bool = False) -> list[Step]:
    """One to four actions, as close to each other as may be; with a ``spare``, also on that."""
    names = list(ACTIONS)
    weights = [action.weight for action in ACTIONS.values()]
    drawn = dice.choices(names, weights, k=dice.choice([1, 1, 2, 2, 3, 4]))
    steps = [
        Step(name, ACTIONS[name].draw(dice), round(dice.choice([0.0, dice.uniform(0, 0.6)]), 3))
        for name in drawn
    ]
    for step in steps if spare else ():
        victims = step.arguments.get("victims")
        if victims is not None:
            others = [["server"], [SPARE], [SPARE, "server"], ["server", SPARE], [SPARE, *victims]]
            step.arguments["victims"] = dice.choice(others)
    return steps


def single_strikes(*, spare: bool = False) -> list[list[Step]]:
    """Each process and each signal, once and alone; what is stopped is missed."""
    return [
        [Step("strike", {"victims": [victim], "signame": signame, "wake_after_s": 2.0}, 0.0)]
        for victim in (*([SPARE] if spare else []), *VICTIMS)
        for signame in ("SIGKILL", "SIGTERM", "SIGSTOP")
    ]


def play(world: World, history: list[Step]) -> None:
    """Do it, with what it may hurt noted before."""
    ends = 0
    for step in history:
        hurts = ACTIONS[step.name].hurts(**step.arguments)
        ends += "end" in hurts
        world.hurt |= hurts | TURNS if ends > 1 else hurts
        world.may_be_stopped |= "rest" in hurts
        ACTIONS[step.name].do(world, **step.arguments)
        time.sleep(step.pause_s)
