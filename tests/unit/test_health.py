from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from codexd.config import Config, resolve
from codexd.keeper import health
from codexd.keeper.health import Health

FLAGS = {
    "health_interval_ms": "10",
    "health_timeout_ms": "20",
    "health_misses": "3",
    "ready_timeout_ms": "50",
}


class Patient:
    def __init__(self) -> None:
        self.is_ready = True
        self.last_heard = 0.0
        self.waiting_since: float | None = None
        self.speaks = True
        self.asked = 0
        self.answer: Callable[[], Awaitable[None]] = self.no_answer

    async def probe(self, timeout_s: float) -> None:
        self.asked += 1
        assert timeout_s == 0.02
        await self.answer()

    async def no_answer(self) -> None:
        await asyncio.sleep(0)
        raise TimeoutError

    async def good_answer(self) -> None:
        await asyncio.sleep(0)


class Ward:
    """A health check that runs until the patient was asked so often, or given up."""

    def __init__(self, config: Config | None = None) -> None:
        self.patient = Patient()
        self.reasons: list[str] = []
        self.answers = 0
        self.client_answered_at: Callable[[], float | None] = lambda: None
        self.ended = asyncio.Event()
        config = config or resolve(FLAGS, {}, cwd="/")
        self.health = Health(
            config.policy,
            self.patient,
            self._give_up,
            self._answered,
            answered_at=lambda: self.client_answered_at(),
            replaces=config.server.child_strategy == "spawn",
        )

    def _give_up(self, reason: str) -> None:
        self.reasons.append(reason)
        self.ended.set()

    def _answered(self) -> None:
        self.answers += 1

    async def run(self, until: Callable[[], bool]) -> None:
        task = asyncio.create_task(self.health.run())
        async with asyncio.timeout(20):
            while not until():
                await asyncio.sleep(0.001)
        task.cancel()


def test_a_child_that_misses_every_check_is_given_up() -> None:
    async def main() -> None:
        ward = Ward()
        await ward.run(lambda: bool(ward.reasons))
        assert ward.patient.asked == 3
        assert "3 checks" in ward.reasons[0]
        assert ward.health.checks["missed"] in (2, 3)

    asyncio.run(main())


def test_an_answer_forgives_the_misses_before() -> None:
    async def main() -> None:
        ward = Ward()

        async def every_third() -> None:
            if ward.patient.asked % 3:
                await ward.patient.no_answer()

        ward.patient.answer = every_third
        await ward.run(lambda: ward.patient.asked >= 12)
        assert ward.reasons == []
        assert ward.answers >= 3
        assert ward.health.checks["answered"] == ward.answers
        assert set(ward.health.checks) == {"answered", "missed"}

    asyncio.run(main())


def test_whatever_a_busy_child_sends_is_a_sign_of_life() -> None:
    async def main() -> None:
        ward = Ward()

        async def late_but_talking() -> None:
            await asyncio.sleep(0.002)
            ward.patient.last_heard = asyncio.get_running_loop().time()
            raise TimeoutError

        ward.patient.answer = late_but_talking
        await ward.run(lambda: ward.patient.asked >= 8)
        assert ward.reasons == []
        assert set(ward.health.checks) == {"heard"}

    asyncio.run(main())


def test_a_time_in_which_this_process_did_not_run_counts_for_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(health, "_STALL_S", 0.0)

    async def main() -> None:
        ward = Ward()

        async def much_too_late() -> None:
            await asyncio.sleep(0.03)
            raise TimeoutError

        ward.patient.answer = much_too_late
        monkeypatch.setattr(ward.health, "_interval_s", 0.02)
        monkeypatch.setattr(health, "_STALL_S", 0.005)
        await ward.run(lambda: ward.patient.asked >= 6)
        assert ward.reasons == []
        assert set(ward.health.checks) == {"void"}

    asyncio.run(main())


def test_a_connection_that_is_gone_is_told_elsewhere() -> None:
    async def main() -> None:
        ward = Ward()

        async def gone() -> None:
            await asyncio.sleep(0)
            raise ConnectionError

        ward.patient.answer = gone
        await ward.run(lambda: ward.patient.asked >= 6)
        assert ward.reasons == []
        assert set(ward.health.checks) == {"void"}

    asyncio.run(main())


@pytest.mark.parametrize(
    ("speaks", "strategy", "given_up"),
    [(True, "spawn", True), (False, "spawn", False), (True, "external", False)],
)
def test_only_a_child_of_ours_that_must_speak_is_overdue(
    speaks: bool, strategy: str, given_up: bool
) -> None:
    async def main() -> None:
        ward = Ward(resolve({**FLAGS, "server_strategy": strategy}, {}, cwd="/"))
        loop = asyncio.get_running_loop()
        ward.patient.is_ready = False
        ward.patient.speaks = speaks
        ward.patient.waiting_since = begun = loop.time()
        await ward.run(lambda: bool(ward.reasons) or loop.time() - begun > 0.2)
        assert bool(ward.reasons) == given_up

    asyncio.run(main())


def test_what_it_missed_is_told_until_it_answers_again() -> None:
    async def main() -> None:
        ward = Ward()
        assert ward.health.misses == 0
        await ward.run(lambda: len(ward.reasons) == 2)
        # Nobody could replace it: it goes on missing checks, and is given up again and again.
        assert (ward.patient.asked, ward.health.misses) == (6, 6)
        assert ["3 checks" in ward.reasons[0], "6 checks" in ward.reasons[1]] == [True, True]
        ward.patient.answer = ward.patient.good_answer
        await ward.run(lambda: ward.answers > 0)
        assert ward.health.misses == 0

    asyncio.run(main())


def test_who_has_just_answered_a_client_is_not_asked() -> None:
    async def main() -> None:
        ward = Ward()
        loop = asyncio.get_running_loop()
        ward.patient.answer = ward.patient.good_answer
        last = loop.time()

        def answered_at() -> float:
            # It answers somebody at any time, until that was noticed twice, and then never again.
            nonlocal last
            if ward.health.checks["heard"] < 2:
                last = loop.time()
            return last

        ward.client_answered_at = answered_at
        await ward.run(lambda: ward.patient.asked > 0)
        # Asked an interval after the last of them, as if that had been a check.
        assert loop.time() - last >= 0.01
        assert ward.health.checks["heard"] >= 2
        assert ward.answers >= ward.health.checks["heard"]

    asyncio.run(main())


def test_who_misses_is_asked_whatever_a_client_was_answered() -> None:
    async def main() -> None:
        ward = Ward()
        loop = asyncio.get_running_loop()

        ward.client_answered_at = lambda: loop.time() if ward.patient.asked else None
        await ward.run(lambda: bool(ward.reasons))
        assert ward.health.checks["missed"] in (2, 3)

    asyncio.run(main())
