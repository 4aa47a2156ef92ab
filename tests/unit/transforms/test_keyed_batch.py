"""Batches across keys: order per owner, size, the bundle's end, and errors."""

import gc
from threading import Event, Thread

import apache_beam as beam
import pytest
from apache_beam.pvalue import TaggedOutput
from apache_beam.testing.test_pipeline import TestPipeline
from apache_beam.testing.util import assert_that, equal_to

from transforms.keyed_batch import KeyedBatch, shard_of
from transforms.stores import StoreUnavailable


class Join(KeyedBatch):
    """Gives each batch as one text; refuses payloads that say so."""

    def handle(self, payloads):
        if b"bad" in payloads:
            raise ValueError("a bad payload")
        if b"away" in payloads:
            raise StoreUnavailable("127.0.0.1:9042")
        return [TaggedOutput("joined", b" ".join(payloads))]

    def refuse(self, payload, error):
        return [TaggedOutput("refused", (payload, str(error)))]


def keyed(*payloads):
    return [(shard_of("learner-1", 8), payload) for payload in payloads]


def joined(elements, size, expected, refused=()):
    with TestPipeline() as pipeline:
        results = (
            pipeline
            | beam.Create([0])
            | beam.FlatMap(lambda _: elements).with_output_types(tuple[bytes, bytes])
            | beam.ParDo(Join(size)).with_outputs("joined", "refused")
        )
        assert_that(results.joined, equal_to(expected), label="joined")
        assert_that(results.refused, equal_to(list(refused)), label="refused")


def test_a_batch_closes_at_its_size_and_with_the_bundle_in_order():
    joined(keyed(b"1", b"2", b"3", b"4", b"5"), 2, [b"1 2", b"3 4", b"5"])


def test_one_batch_takes_payloads_of_many_keys():
    elements = [(shard_of(f"learner-{n}", 1_000), b"%d" % n) for n in range(20)]
    with TestPipeline() as pipeline:
        results = (
            pipeline
            | beam.Create([0])
            | beam.FlatMap(lambda _: elements).with_output_types(tuple[bytes, bytes])
            | beam.ParDo(Join(100)).with_outputs("joined", "refused")
        )
        sizes = results.joined | beam.Map(lambda batch: len(batch.split()))
        assert_that(sizes, equal_to([20]))


def test_a_bad_payload_is_refused_and_the_others_are_handled():
    joined(keyed(b"1", b"bad", b"3"), 10, [b"1", b"3"], [(b"bad", "a bad payload")])


def test_a_store_that_stays_away_fails_the_bundle():
    with pytest.raises(Exception, match=r"127\.0\.0\.1:9042"):
        joined(keyed(b"1", b"away"), 10, [])


def test_a_size_below_one_is_refused():
    with pytest.raises(ValueError, match="at least one"):
        Join(0)


def test_a_shard_is_the_same_for_the_same_owner_and_within_range():
    assert shard_of("learner-1", 7) == shard_of("learner-1", 7)
    assert {int(shard_of(f"learner-{n}", 7)) for n in range(200)} == set(range(7))


def test_the_garbage_collector_is_on_again_after_batches_of_two_threads(monkeypatch):
    """One ends just as the other begins: a worker process handles several bundles at once."""
    first_is_inside, first_may_end = Event(), Event()

    class Slow(Join):
        def handle(self, payloads):
            first_is_inside.set()
            first_may_end.wait(10)
            return super().handle(payloads)

    first = Thread(target=lambda: Slow(1).process(*keyed(b"1")))
    disable = gc.disable

    def disable_when_the_first_has_ended():
        if first_is_inside.is_set():
            first_may_end.set()
            first.join()
        disable()

    monkeypatch.setattr(gc, "disable", disable_when_the_first_has_ended)
    try:
        first.start()
        first_is_inside.wait(10)
        Join(1).process(*keyed(b"2"))
        assert gc.isenabled()
    finally:
        gc.enable()
