from __future__ import annotations

from memory.upkeep.suspicions import (
    AGAIN_WITHIN_S,
    CONFIRMED_AFTER_S,
    CRASH_AGAIN_WITHIN_S,
    SIGN_KEPT_S,
    STUCK_FOR_S,
    STUCK_WITHIN_S,
    Suspicions,
)


class Watched:
    """Suspicions with a clock that a test moves."""

    def __init__(self) -> None:
        self.now = 100.0
        self.suspicions = Suspicions(lambda: self.now)

    def restart(self) -> None:
        self.suspicions.settle(self.suspicions.verdict())


def test_a_certain_sign_is_enough_and_a_possible_one_is_not() -> None:
    watched = Watched()
    watched.suspicions.report("one", "possible")
    watched.now += CONFIRMED_AFTER_S / 2
    watched.suspicions.report("one", "possible")
    assert not watched.suspicions.pressing
    watched.suspicions.report("two", "certain")
    assert watched.suspicions.pressing
    assert watched.suspicions.verdict().suspects == {"two"}


def test_what_is_suspected_again_although_its_files_look_sound_is_given_up() -> None:
    watched = Watched()
    watched.suspicions.report("one", "certain")
    assert not watched.suspicions.verdict().condemned
    watched.restart()
    assert not watched.suspicions.pressing
    watched.now += AGAIN_WITHIN_S / 2
    watched.suspicions.report("one", "certain")
    assert watched.suspicions.verdict().condemned == {"one"}


def test_a_second_crash_soon_after_the_first_condemns_what_was_asked_about() -> None:
    watched = Watched()
    watched.suspicions.crashed({"one"})
    verdict = watched.suspicions.verdict()
    assert verdict.deep
    assert not verdict.condemned
    watched.restart()
    watched.now += CRASH_AGAIN_WITHIN_S / 2
    watched.suspicions.crashed({"two"})
    assert watched.suspicions.verdict().condemned == {"two"}


def test_a_chroma_that_stays_stuck_is_started_again_and_no_index_is_blamed() -> None:
    watched = Watched()
    watched.suspicions.report("one", "stuck")
    assert not watched.suspicions.pressing
    watched.now += STUCK_FOR_S
    watched.suspicions.report("two", "stuck")
    assert watched.suspicions.pressing
    assert watched.suspicions.reason == "its database is stuck"
    verdict = watched.suspicions.verdict()
    assert not (verdict.deep or verdict.suspects or verdict.condemned)
    watched.restart()
    assert not watched.suspicions.pressing


def test_troubles_that_pass_are_no_reason_to_start_chroma_again() -> None:
    watched = Watched()
    for _ in range(5):
        watched.suspicions.report("one", "stuck")
        watched.now += STUCK_WITHIN_S + 1
    assert not watched.suspicions.pressing


def test_a_sign_is_confirmed_a_moment_later_and_forgotten_after_a_while() -> None:
    watched = Watched()
    watched.suspicions.report("one", "possible")
    watched.now += SIGN_KEPT_S + 1
    watched.suspicions.report("one", "possible")
    assert not watched.suspicions.pressing
    watched.now += 2 * CONFIRMED_AFTER_S
    watched.suspicions.report("one", "possible")
    assert watched.suspicions.verdict().suspects == {"one"}


def test_a_verdict_that_was_not_carried_out_stands_and_later_reports_are_kept() -> None:
    watched = Watched()
    watched.suspicions.report("one", "certain")
    verdict = watched.suspicions.verdict()
    assert watched.suspicions.verdict() == verdict
    watched.suspicions.report("two", "certain")
    watched.suspicions.settle(verdict)
    assert watched.suspicions.verdict().suspects == {"two"}
