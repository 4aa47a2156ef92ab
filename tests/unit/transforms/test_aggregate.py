"""What a consumption adds and what is done: activity-aggregate-updater §3.4-§3.6, §3.12."""

import pytest

from transforms.aggregate import COMPLETE, NOT_CONSUMED, START, Consumed, completed, consume


@pytest.mark.parametrize(
    ("before", "after", "first"),
    [
        (NOT_CONSUMED, Consumed(2, 1, 1), (START, COMPLETE)),
        (Consumed.from_row(1, 0, 0), Consumed(2, 1, 1), (START, COMPLETE)),
        (Consumed.from_row(1, None, None), Consumed(2, 1, 1), (START, COMPLETE)),
        (Consumed.from_row(1, 3, 0), Consumed(2, 4, 1), (COMPLETE,)),
        (Consumed.from_row(2, 1, 0), Consumed(2, 2, 1), (COMPLETE,)),
        (Consumed.from_row(2, 4, 2), Consumed(2, 5, 3), ()),
        (Consumed.from_row(3, 4, 2), Consumed(3, 5, 3), ()),
        (Consumed.from_row(2, 0, 2), Consumed(2, 1, 3), (START,)),
    ],
)
def test_the_table_of_reconsumption(before, after, first):
    assert consume(before, 1) == (after, first)


def test_a_content_counts_as_often_as_it_was_reported():
    assert consume(Consumed(2, 1, 1), 3) == (Consumed(2, 4, 4), ())


def test_a_null_status_means_in_progress():
    assert Consumed.from_row(None, None, None) == Consumed(1, 0, 0)


def test_completed_means_exactly_two():
    assert completed({"a": 2, "b": 3, "c": 1, "d": 0}) == {"a"}
