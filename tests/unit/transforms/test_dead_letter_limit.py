"""When too many records become dead letters."""

from __future__ import annotations

import random

import pytest

from transforms.dead_letter_limit import WINDOW, Limit, RecentRecords

IN_A_ROW = Limit(max_in_a_row=10)
SHARE = Limit(max_share=0.5)


def noted(limit: Limit, *batches: tuple[int, int]) -> list[int]:
    """The places of the batches (records, letters) after which the limit was exceeded."""
    recent = RecentRecords()
    return [place for place, batch in enumerate(batches) if recent.note(*batch, limit)]


def test_in_a_row() -> None:
    assert noted(IN_A_ROW, *[(1, 1)] * 12) == [9, 10, 11]
    assert noted(IN_A_ROW, *[(1, 1)] * 9, (1, 0), *[(1, 1)] * 9) == []
    assert noted(IN_A_ROW, (10, 10)) == [0]
    assert noted(IN_A_ROW, (6, 6), (6, 6)) == [1]


def test_records_that_were_handled_together_have_no_order() -> None:
    assert noted(IN_A_ROW, (9, 9), (20, 19), (9, 9)) == []


def test_nothing_handled_ends_a_row() -> None:
    """A bundle without records, as a quiet topic has them, says nothing of the service."""
    recent = RecentRecords()
    recent.note(9, 9, IN_A_ROW)
    assert recent.in_a_row == 9


def test_one_record_may_make_several_letters() -> None:
    assert noted(IN_A_ROW, *[(1, 3)] * 9) == []
    assert noted(SHARE, *[(2, 1), (2, 0)] * WINDOW) == []


@pytest.mark.parametrize("limit", [Limit(), Limit(1.0, 0)])
def test_no_limit(limit: Limit) -> None:
    assert noted(limit, *[(1, 1)] * (3 * WINDOW)) == []


def test_the_share_counts_from_a_full_window_on() -> None:
    assert noted(SHARE, *[(1, 1)] * (WINDOW - 1)) == []
    assert noted(SHARE, *[(1, 1)] * WINDOW) == [WINDOW - 1]
    assert noted(SHARE, *[(1, 0), (1, 1)] * (2 * WINDOW)) == []


def test_what_is_long_ago_does_not_count() -> None:
    """An hour of good records does not hide an outage, and an outage is forgotten when it is over."""
    recent = RecentRecords()
    for _ in range(50 * WINDOW):
        assert recent.note(1, 0, SHARE) is None
    told = [recent.note(1, 1, SHARE) for _ in range(WINDOW)]
    first = next(place for place, said in enumerate(told) if said)
    assert WINDOW / 2 <= first < WINDOW * 0.6
    assert str(told[first]).endswith("became dead letters (dead-letters.max-share)")
    for _ in range(2 * WINDOW):
        recent.note(1, 0, SHARE)
    assert recent.note(1, 0, SHARE) is None


def test_any_batches_are_judged_like_the_records_of_the_window() -> None:
    chance = random.Random(3)
    for _ in range(20):
        recent, totals = RecentRecords(), [(0, 0)]
        limit = Limit(max_share=chance.uniform(0.2, 0.9))
        for _ in range(60):
            records = chance.randrange(1, 300)
            letters = chance.randrange(records + 1)
            totals.append((totals[-1][0] + records, totals[-1][1] + letters))
            said = recent.note(records, letters, limit)
            # what ends now and begins with any batch, of about the window's size
            spans = [(totals[-1][0] - before, totals[-1][1] - then) for before, then in totals]
            shares = [bad / size for size, bad in spans if WINDOW <= size < WINDOW + 900]
            if said:
                assert max(shares) > limit.max_share
            if shares and min(shares) > limit.max_share:
                assert said
