"""Every job stops when too many of its records become dead letters, wherever in it; none of its records is touched."""

from __future__ import annotations

import logging
from typing import Any

import apache_beam as beam
import orjson
import pytest
from pydantic import ValidationError

from pipelines import cokreat_user_delete, enrolment_reconciliation, jobs
from pipelines.in_memory import MemorySink, MemorySource
from pipelines.runtime import assemble
from pipelines.settings import keys
from tests.pipelines.cokreat_site import CokreatSite
from tests.pipelines.test_cokreat_user_delete import Site, event
from transforms.dead_letter_limit import WINDOW

FAILED = "dev.failed"


class Assembled:
    """cokreat-user-delete as the command assembles it, with its services in memory."""

    def __init__(self, **changed: Any) -> None:
        self.site = Site(**changed)
        self.NAME = cokreat_user_delete.NAME
        self.build = cokreat_user_delete.build

    def stores(self, _: Any) -> Any:
        return self.site.stores()

    def run(self, *values: Any, limited: bool = True) -> list[dict[str, Any]]:
        """The dead letters."""
        raw = tuple(value if isinstance(value, bytes | None) else orjson.dumps(value) for value in values)
        sink = MemorySink(self.site.name)
        with beam.Pipeline(runner="DirectRunner") as pipeline:
            assemble(pipeline, self, self.site.settings, MemorySource(raw), sink, limited=limited)  # type: ignore[arg-type]
        return [orjson.loads(value) for _, value in sink.written[FAILED]]


def in_a_row(times: int, **changed: Any) -> Assembled:
    return Assembled(**{"dead-letters.max-in-a-row": times, **changed})


def test_in_the_first_step() -> None:
    """Rubbish on the topic."""
    job = in_a_row(10)
    assert len(job.run(*[b"no JSON"] * 9, event(), *[b"no JSON"] * 9)) == 18
    with pytest.raises(Exception, match=r"10 records in a row .*max-in-a-row.* because: not JSON"):
        job.run(event(), *[b"no JSON"] * 10, event())


def test_in_a_later_step() -> None:
    """A service that is away; what the first step skips is nothing to the second."""
    job = in_a_row(10)
    job.site.fault(status=503)
    skipped = [event(actor="coKreat Flink Job")] * 20
    with pytest.raises(Exception, match=r"because: the contribution service answers 503"):
        job.run(*skipped, *(event(user=f"learner-{number}") for number in range(20)), *skipped)


def test_a_good_one_between_them() -> None:
    job = in_a_row(30)
    job.site.fault(status=400, times=15)
    letters = job.run(*(event(user=f"learner-{number}") for number in range(60)))
    assert len(letters) == 15


def test_nothing_of_the_batch_is_given_out() -> None:
    job = in_a_row(5)
    sink = MemorySink(job.site.name)
    with pytest.raises(Exception, match="max-in-a-row"):
        job.run(*[b"no JSON"] * 4, b"{", event())
    assert len(sink.written.get(FAILED, [])) <= 4


def test_letters_with_a_kafka_key() -> None:
    module = jobs.load("assessment-aggregator")
    settings = module.Settings(**{"job.env": "dev", "dead-letters.max-in-a-row": 3})

    def run(*values: bytes) -> None:
        with beam.Pipeline(runner="DirectRunner") as pipeline:
            assemble(pipeline, module, settings, MemorySource(values), MemorySink("letters-with-a-key"))

    run(b"no JSON")
    with pytest.raises(Exception, match="max-in-a-row"):
        run(*[b"no JSON"] * 4)


def test_the_message_names_the_way_out() -> None:
    with pytest.raises(Exception, match=r"cokreat-user-delete stops: .*--set dead-letters\.max-in-a-row=0 --set dead-"):
        in_a_row(1).run(b"")


def test_the_share() -> None:
    values = [b"no JSON", event(actor="coKreat Flink Job"), b"no JSON"] * (WINDOW // 3 + 1)
    off = {"dead-letters.max-in-a-row": 0}
    with pytest.raises(Exception, match=r"6\d % of the last 20\d\d records .*max-share"):
        Assembled(**{**off, "dead-letters.max-share": 0.6}).run(*values)
    assert len(Assembled(**{**off, "dead-letters.max-share": 0.7}).run(*values)) > WINDOW / 2


def test_no_limit() -> None:
    off = {"dead-letters.max-in-a-row": 0, "dead-letters.max-share": 1}
    assert len(Assembled(**off).run(*[b"no JSON"] * (WINDOW + 10))) == WINDOW + 10


def test_a_job_in_the_shadow_has_none() -> None:
    assert len(in_a_row(3).run(*[b"no JSON"] * 10, limited=False)) == 10


def test_one_run_does_not_count_for_the_next() -> None:
    for _ in range(3):
        assert len(in_a_row(10).run(*[b"no JSON"] * 8)) == 8


def test_a_letter_of_a_later_step_is_told_with_its_message_id(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    job = in_a_row(10)
    job.site.fault(status=400)
    job.run(event())
    [told] = [record for record in caplog.records if record.getMessage().startswith("Dead letter")]
    assert told.getMessage() == "Dead letter: the contribution service answers 400"
    assert told.messageId == event()["mid"]  # type: ignore[attr-defined]


def test_the_same_comes_out_as_without_watching() -> None:
    values = [event(user=f"learner-{number}") for number in range(30)] + [b"no JSON", None, event()]
    watched = Assembled()
    letters = watched.run(*values)
    plain = Site()
    plain.delete(*values)
    assert sorted(map(str, letters)) == sorted(map(str, plain.letters))
    assert watched.site.services.contributors == plain.services.contributors


def test_good_records_end_a_row_however_few() -> None:
    values = ([b"no JSON"] * 4 + [event(actor="coKreat Flink Job")]) * 60
    assert len(in_a_row(5).run(*values)) == 240


def test_jobs_of_a_group_have_limits_of_their_own() -> None:
    """One pipeline, two jobs: each step is watched once, for its own job."""
    strict = enrolment_reconciliation.Settings(job_env="a", dead_letters_max_in_a_row=3)
    lax = enrolment_reconciliation.Settings(job_env="b", dead_letters_max_in_a_row=0)
    for bad_of_strict in (2, 3):
        sink = MemorySink(f"group-{bad_of_strict}")
        pipeline = beam.Pipeline(runner="DirectRunner")
        assemble(pipeline, enrolment_reconciliation, strict, MemorySource((b"{",) * bad_of_strict), sink, "strict")
        assemble(pipeline, enrolment_reconciliation, lax, MemorySource((b"{",) * 10), sink, "lax")
        if bad_of_strict == 2:
            pipeline.run().wait_until_finish()
            assert len(sink.written["a.enrolment.reconciliation.failed"]) == 2
            assert len(sink.written["b.enrolment.reconciliation.failed"]) == 10
        else:
            with pytest.raises(Exception, match="3 records in a row"):
                pipeline.run().wait_until_finish()


# --- every job


@pytest.mark.parametrize("job", jobs.JOBS)
def test_every_job_has_the_settings(job: str) -> None:
    known = keys(jobs.load(job).Settings)
    assert {"dead-letters.max-in-a-row", "dead-letters.max-share", "logs.format"} <= known.keys()


@pytest.mark.parametrize(
    "wrong", [{"dead-letters.max-share": 0}, {"dead-letters.max-share": 1.1}, {"dead-letters.max-in-a-row": -1}]
)
def test_limits_that_are_none(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        CokreatSite(cokreat_user_delete, **wrong)


def test_a_job_that_knows_nothing_of_it() -> None:
    """The limit is put around any job's steps when it is assembled."""
    settings = enrolment_reconciliation.Settings(job_env="dev", dead_letters_max_in_a_row=3)
    sink = MemorySink("watched")
    pipeline = beam.Pipeline(runner="DirectRunner")
    assemble(pipeline, enrolment_reconciliation, settings, MemorySource((b"{",) * 3), sink)
    with pytest.raises(Exception, match="enrolment-reconciliation stops: 3 records in a row"):
        pipeline.run().wait_until_finish()
