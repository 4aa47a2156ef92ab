"""What is read off the samples and records of a measurement."""

import psutil
import pytest
import typer

from deploy.local.scenario import Fate
from tests.bench.__main__ import share, span
from tests.bench.kafka import CERTIFICATE, Outcome
from tests.bench.load import Load, Shape
from tests.bench.measure import Latency, MemoryRun, Throughput, judge, latencies
from tests.bench.processes import Sampler, Series
from tests.bench.stores import Compared


@pytest.fixture(scope="module")
def load() -> Load:
    shape = Shape(events=100, learners=20)
    return Load.of(shape, shape.course("small"), "a")


def outcomes_of(load: Load) -> list[Outcome]:
    audits = [Outcome(5_000, *key) for key in load.audits()]
    return audits + [Outcome(5_000, user, "batch", CERTIFICATE) for user in load.certificates()]


def wrong(judged: dict[str, Compared]) -> dict[str, int]:
    return {what: compared.wrong for what, compared in judged.items()}


def test_all_events_once_is_right(load: Load) -> None:
    judged = judge(load, outcomes_of(load))
    assert wrong(judged) == {"AUDIT events": 0, "certificate requests": 0, "dead letters": 0}
    assert judged["AUDIT events"].right == load.audits().total()


def test_a_lost_a_doubled_and_a_strange_event_are_wrong(load: Load) -> None:
    all_of_them = outcomes_of(load)
    strange = Outcome(5_000, "learner-0", "do_x", "start")
    judged = judge(load, [*all_of_them[1:], all_of_them[1], strange, all_of_them[-1]])
    assert wrong(judged) == {"AUDIT events": 3, "certificate requests": 1, "dead letters": 0}
    assert "expected 1, found None" in judged["AUDIT events"].examples[0]


def test_a_dead_letter_is_wrong(load: Load) -> None:
    judged = judge(load, [*outcomes_of(load), Outcome(5_000, "", "", "failed")])
    assert wrong(judged)["dead letters"] == 1


def test_the_latency_of_an_event_ends_with_its_last_content(load: Load) -> None:
    timestamps = [1_000 + 10 * place for place in range(len(load.scenario.messages))]
    place, message = next(
        (place, m) for place, m in enumerate(load.scenario.messages) if m.fate is Fate.HANDLED and len(m.completed) > 1
    )
    assert message.enrolment
    user_id = message.enrolment.user_id
    ends = [2_000 + number for number in range(len(message.completed))]
    came = [Outcome(end, user_id, content, "start") for end, content in zip(ends, message.completed, strict=True)]
    came.append(Outcome(9_000, user_id, user_id, "enrol-complete"))
    assert latencies(load, timestamps, came) == [ends[-1] - timestamps[place]]


def test_percentiles() -> None:
    latency = Latency(100, 10.0, list(range(100, 0, -1)), {})
    assert [latency.percentile(percent) for percent in (50, 95, 99, 100)] == [51, 96, 100, 100]
    assert Latency(3, 10.0, [7], {}).percentile(50) == 7


def test_throughput_and_cpu_for_a_thousand_events() -> None:
    run = Throughput(500, began=10.0, first=11.0, ended=12.0, cpu={"Cassandra": 1.0, "TaskManager": 0.5, "Kafka": 9.0})
    assert run.events_per_second == 250
    assert run.cpu_per_1000("Cassandra", "TaskManager", "Python worker") == 3.0


def test_cpu_between_samples_is_interpolated() -> None:
    series = Series(times=[0.0, 10.0, 20.0], cpu=[0.0, 1.0, 5.0], memory=[1_000_000, 3_000_000, 2_000_000])
    assert series.cpu_between(5.0, 15.0) == pytest.approx(2.5)
    assert series.cpu_between(-5.0, 50.0) == pytest.approx(5.0)
    assert series.peak_megabytes == 3.0
    assert Series().cpu_between(0.0, 1.0) == 0.0


def test_growth_of_memory_leaves_out_the_beginning() -> None:
    def run(memory: list[float]) -> MemoryRun:
        samples = [(float(second), megabytes) for second, megabytes in enumerate(memory)]
        return MemoryRun(1, samples, {}, {}, 1.0)

    assert run([50.0] * 25 + [100.0] * 75).growth == 0
    assert run([float(value) for value in range(100)]).growth == pytest.approx(50)
    assert run([1.0]).growth == 0


def test_the_sampler_sees_this_process() -> None:
    sampler = Sampler(lambda: {"this": [psutil.Process()]}, every=0.01)
    while len(sampler.series["this"].times) < 3:
        sum(range(10_000))
    sampler.close()
    assert sampler.series["this"].peak_megabytes > 10
    assert sampler.series["this"].cpu[-1] >= sampler.series["this"].cpu[0] > 0


@pytest.mark.parametrize(("text", "value"), [("10%", 0.1), ("0.5", 0.5), ("0", 0)])
def test_shares(text: str, value: float) -> None:
    assert share(text) == pytest.approx(value)


@pytest.mark.parametrize("text", ["100%", "-1%"])
def test_shares_that_are_none(text: str) -> None:
    with pytest.raises(typer.BadParameter):
        share(text)


@pytest.mark.parametrize(("text", "value"), [("1-4", (1, 4)), ("2", (2, 2))])
def test_spans(text: str, value: tuple[int, int]) -> None:
    assert span(text) == value


@pytest.mark.parametrize("text", ["4-1", "0", "some"])
def test_spans_that_are_none(text: str) -> None:
    with pytest.raises(typer.BadParameter):
        span(text)
