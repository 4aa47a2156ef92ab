"""The watch around the stages: what is nested is counted once."""

import time

from tests.bench.stages import COMPUTE, READS, SELECT, _Watch


def test_an_inner_stage_is_not_counted_in_the_outer_one() -> None:
    watch = _Watch()

    def busy(seconds: float) -> None:
        end = time.process_time() + seconds
        while time.process_time() < end:
            pass

    with watch.stage(COMPUTE):
        busy(0.02)
        for _ in range(2):
            with watch.stage(READS):
                busy(0.05)
    assert watch.spent[READS].calls == 2
    assert watch.spent[COMPUTE].calls == 1
    assert 0.1 <= watch.spent[READS].cpu < 0.13
    assert 0.02 <= watch.spent[COMPUTE].cpu < 0.05
    assert watch.spent[SELECT].calls == 0


def test_a_function_is_watched_as_it_is() -> None:
    watch = _Watch()
    assert watch.around(SELECT, lambda a, b: a + b)(1, 2) == 3
    assert watch.spent[SELECT].calls == 1
