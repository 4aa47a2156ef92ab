"""The acceptance cases of metrics-data-transformer §9, and its failures of §6, on DirectRunner."""

from __future__ import annotations

import json
import random
import time
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from io_connectors.cokreat_services import ContentRepository
from pipelines import metrics_data_transformer as job
from schemas.event_schemas import validator
from tests.bench.metrics import foreign_event
from tests.pipelines.cokreat_site import SERVICES, CokreatSite
from transforms.counters import counted_in_this_process, forget_counts
from transforms.dead_letter import FAILED
from transforms.decode import Record
from transforms.transform_metrics import MetricsStores, SelectMetrics

CONTENT, ORIGIN = "do_31339778227546521611171", "do_1133"
CHANNEL = "013085024460783616158023"
READ, READ_ORIGIN = f"/content/v3/read/{CONTENT}", f"/sourcing/content/v3/read/{ORIGIN}"
UPDATE = f"/sourcing/content/v4/system/update/{ORIGIN}"
ORIGIN_DATA = {"identifier": ORIGIN, "repository": "http://sourcing.test/do_1133"}


def changed(new: Any, old: Any = None) -> dict[str, Any]:
    return {"ov": old, "nv": new}


def event(content: Any = CONTENT, channel: Any = CHANNEL, **properties: Any) -> dict[str, Any]:
    return {
        "ets": 1725661905885,
        "channel": channel,
        "mid": "9c58ad31-fd6f-486b-9415-f54477e7f83f",
        "nodeUniqueId": content,
        "objectType": "Content",
        "operationType": "UPDATE",
        "nodeType": "DATA_NODE",
        "graphId": "domain",
        "userId": "ANONYMOUS",
        "createdOn": "2024-09-06T22:31:45.885+0000",
        "transactionData": {"properties": {"lastUpdatedOn": changed("2024-09-06T22:31:45.811+0000"), **properties}},
    }


RATED = event(me_totalRatingsCount=changed(15, 14))


class Site(CokreatSite):
    """With one imported content and its original."""

    def __init__(self, **changed: Any) -> None:
        super().__init__(job, **changed)
        self.services.contents[CONTENT] = {"name": "Plants", "origin": ORIGIN, "originData": ORIGIN_DATA}
        self.services.sourcing_contents[ORIGIN] = {"name": "Plants"}

    def stores(self) -> MetricsStores:
        """The recipes that the job makes, with the twin in place of sockets."""
        made = job.stores(self.settings)
        repositories = [
            ContentRepository(**{**vars(recipe), "http": self.http}) for recipe in (made.consumption, made.sourcing)
        ]
        return MetricsStores(*repositories, self.calls_at_once)

    def transform(self, *values: Any, **options: Any) -> Site:
        self.run(self.stores(), *values, **options)
        return self

    @property
    def updates(self) -> list[dict[str, Any]]:
        return list(self.services.content_updates)


@pytest.fixture
def site() -> Site:
    return Site()


def with_names(**more: Any) -> Site:
    """As deployed: names and descriptions are carried over too."""
    codes = {"sourcing.update.api.response.error.code": ["404", "400"]}
    return Site(**{"data.metrics": [*job.METRICS, "name", "description"], **codes, **more})


def test_an_imported_content(site: Site):
    """§9 case 1"""
    value = event(me_totalRatingsCount=changed(15, 14), name=changed("Plants", "Plant"))
    validator("learning-graph-event").validate(value)
    assert site.transform(value).counted(success=1)
    assert site.called == [("GET", READ), ("GET", READ_ORIGIN), ("PATCH", UPDATE)]
    assert orjson.loads(site.calls[2].body) == {"request": {"content": {"me_totalRatingsCount": 15}}}
    assert site.calls[2].headers["X-Channel-Id"] == CHANNEL
    assert {call.headers["Content-Type"] for call in site.calls} == {"application/json"}
    assert "X-Channel-Id" not in site.calls[0].headers


@pytest.mark.parametrize(
    "value",
    [
        event(),
        event(name=changed("x")),
        {**event(), "transactionData": None},
        {**event(), "transactionData": {"properties": [{"me_averageRating": changed(4)}]}},
        {**event(), "transactionData": {"properties": None}},
        {**event(), "me_averageRating": changed(4)},
        event(other={"me_averageRating": changed(4)}),
        event(me_averageRating=4),
        event(me_averageRating={"ov": 4}),
        event(me_averageRatin=changed(4)),
        {},
    ],
)
def test_no_configured_property(site: Site, value: dict[str, Any]):
    """§9 case 2"""
    assert site.transform(value).counted(skipped=1)
    assert site.called == []


@pytest.mark.parametrize("content", [None, "", " ", 7, ["do_1"]])
def test_a_change_of_no_content(site: Site, content: Any):
    value = {**RATED, "nodeUniqueId": content}
    assert not validator("learning-graph-event").is_valid(value)
    assert site.transform(value).counted(skipped=1)
    assert site.called == []


@pytest.mark.parametrize(
    "content",
    [
        None,
        {},
        {"origin": " ", "originData": ORIGIN_DATA},
        {"origin": 7, "originData": ORIGIN_DATA},
        {"originData": ORIGIN_DATA},
        {"origin": ORIGIN, "originData": {}},
        {"origin": ORIGIN, "originData": "{}"},
        {"origin": ORIGIN, "originData": "no JSON"},
        {"origin": ORIGIN, "originData": ""},
        {"origin": ORIGIN, "originData": [ORIGIN_DATA]},
        {"origin": ORIGIN},
    ],
)
def test_not_imported(site: Site, content: dict[str, Any] | None):
    """§9 case 3"""
    if content is None:
        del site.services.contents[CONTENT]
    else:
        site.services.contents[CONTENT] = content
    assert site.transform(RATED).counted(skipped=1)
    assert site.called == [("GET", READ)]


def test_the_original_is_gone(site: Site):
    """§9 case 3"""
    del site.services.sourcing_contents[ORIGIN]
    assert site.transform(RATED).counted(skipped=1)
    assert site.called == [("GET", READ), ("GET", READ_ORIGIN)]


@pytest.mark.parametrize("status", [404, 400])
@pytest.mark.parametrize("deployed", [True, False])
def test_an_update_that_is_not_made(status: int, deployed: bool):
    """§9 case 4"""
    site = with_names() if deployed else Site()
    site.fault(path=UPDATE, status=status, times=1)
    site.transform(RATED, RATED, batch_size=1)
    if status == 404 or deployed:
        assert site.counted(skipped=1, success=1)
    else:
        assert site.counted(failed=1, success=1)
        assert site.reasons == ["the sourcing content service answers 400"]
        assert site.letters == [{**RATED, "jobName": job.NAME, "failInfo": site.letters[0]["failInfo"]}]
    assert site.web.count(UPDATE) == 2


def test_codes_of_a_file_may_be_numbers():
    site = Site(**{"sourcing.update.api.response.error.code": [404, 503]})
    site.fault(path=UPDATE, status=503)
    assert site.transform(RATED).counted(skipped=1)
    assert site.web.count(UPDATE) == 1


@pytest.mark.parametrize(
    "name",
    ['He said "hi"', "Pflanzen ü 🌱", "a\\b\n", "", "5", "null", "{}"],
)
def test_texts_are_sent_as_texts(name: str):
    """§9 case 5, §8.1"""
    site = with_names()
    site.transform(event(name=changed(name), me_averageRating=changed(4.25)))
    assert site.counted(success=1)
    assert orjson.loads(site.calls[2].body)["request"]["content"] == {"me_averageRating": 4.25, "name": name}
    assert site.services.sourcing_contents[ORIGIN] == {"name": name, "me_averageRating": 4.25}


@pytest.mark.parametrize("value", [0, 4.25, 15, 15.0, -1, True, False, [], [1, "a"], {"a": {"b": None}}, 2**63])
def test_values_keep_their_types(site: Site, value: Any):
    """spec §3.7, §8.1: what is in the event is what is sent, not its print form"""
    assert site.transform(event(me_averageRating=changed(value))).counted(success=1)
    [update] = site.updates
    assert repr(update["content"]["me_averageRating"]) == repr(value)


def test_only_null(site: Site):
    """§9 case 6, §8.3"""
    assert site.transform(event(me_averageRating=changed(None, 4.1))).counted(skipped=1)
    assert site.called == []


def test_null_beside_a_value(site: Site):
    site.transform(event(me_averageRating=changed(None, 4.1), me_totalRatingsCount=changed(0, 1)))
    assert [update["content"] for update in site.updates] == [{"me_totalRatingsCount": 0}]


@pytest.mark.parametrize(
    ("path", "status"), [(READ, 503), (READ_ORIGIN, 500), (READ, 429), (UPDATE, 429), (UPDATE, 599)]
)
def test_what_passes(site: Site, path: str, status: int):
    """§9 case 7"""
    site.fault(path=path, status=status, times=2)
    assert site.transform(RATED).counted(success=1)
    assert site.web.count(path) == 3
    assert len(site.updates) == 1


def test_bad_events_stop_nothing(site: Site):
    """§9 case 8"""
    assert site.transform({"nodeUniqueId": "do_1"}, b'{"nodeUniqueId":', RATED).counted(skipped=1, failed=1, success=1)
    assert [letter["rawEvent"] for letter in site.letters] == ['{"nodeUniqueId":']


@pytest.mark.parametrize("value", [None, b"", b"[1,2]", b"\xff", b"me_averageRating"])
def test_records_that_are_no_object(site: Site, value: bytes | None):
    """spec: core §2.1, §15 case 2"""
    assert site.transform(value, RATED).counted(failed=1, success=1)


def test_origin_data_as_text(site: Site):
    """§9 case 9"""
    site.services.contents[CONTENT]["originData"] = json.dumps(ORIGIN_DATA)
    assert site.transform(RATED).counted(success=1)


def test_a_draft_is_asked_for_as_it_is(site: Site):
    """spec §2, §8.4"""
    assert site.transform({**RATED, "nodeUniqueId": f"{CONTENT}.img"}).counted(skipped=1)
    assert site.called == [("GET", f"{READ}.img")]


@pytest.mark.parametrize("channel", [None, 5, ""])
def test_no_channel(site: Site, channel: Any):
    site.transform({**RATED, "channel": channel})
    assert [update["channel"] for update in site.updates] == [""]


@pytest.mark.parametrize("channel", ["a\nb", "ü", " a", "a\r\nX-Other: b"])
def test_a_channel_that_can_not_be_sent(site: Site, channel: str):
    assert site.transform({**RATED, "channel": channel}, RATED).counted(failed=1, success=1)
    assert site.reasons == ["a channel that can not be sent"]


@pytest.mark.parametrize("content", ["a/b", "..", "ü ?x#y"])
def test_an_id_is_one_part_of_the_path(site: Site, content: str):
    site.services.contents[content] = site.services.contents[CONTENT]
    site.transform({**RATED, "nodeUniqueId": content})
    assert site.counted(**{"failed" if content == ".." else "success": 1})


@pytest.mark.parametrize(
    ("path", "fault"),
    [(READ, {"status": 503}), (READ_ORIGIN, {"no_answer": "silent"}), (UPDATE, {"status": 429})],
)
def test_what_does_not_pass_is_a_failed_event(site: Site, path: str, fault: dict[str, Any]):
    """spec §6"""
    site.fault(path=path, **fault)
    assert site.transform(RATED).counted(failed=1)
    assert site.web.count(path) == 4
    assert site.letters[0]["nodeUniqueId"] == CONTENT


@pytest.mark.parametrize(
    ("path", "fault"),
    [(READ, {"no_answer": "broken"}), (READ_ORIGIN, {"status": 429}), (UPDATE, {"status": 503})],
)
def test_without_a_failed_topic_it_ends_the_run(path: str, fault: dict[str, Any]):
    """spec §6, as upstream"""
    site = Site(**{"kafka.failed.topic": None})
    site.fault(path=path, **fault)
    with pytest.raises(Exception, match=r"content service|does not answer"):
        site.transform(RATED)
    assert site.counted(total=1)
    site.stubs.faults = []
    assert site.transform(RATED).counted(success=1)


@pytest.mark.parametrize("path", [READ, READ_ORIGIN, UPDATE])
@pytest.mark.parametrize(
    ("failed_topic", "fault"), [(None, {"status": 401}), ("dev.failed", {"status": 408}), (None, {"body": "html"})]
)
def test_what_is_final_is_a_failed_event(failed_topic: str | None, path: str, fault: dict[str, Any]):
    """spec §6; an update's body does not count"""
    site = Site(**{"kafka.failed.topic": failed_topic})
    site.fault(path=path, **fault)
    site.transform(RATED)
    assert site.counted(**{"success" if path == UPDATE and "body" in fault else "failed": 1})
    assert site.web.count(path) == 1


def test_dead_letters_do_not_go_to_the_topic_that_is_read():
    with pytest.raises(ValidationError, match=r"kafka\.failed\.topic"):
        Site(**{"kafka.failed.topic": "dev.learning.graph.events"})


# --- order, repetition


def test_events_of_one_content_in_order():
    """spec §3: whatever the batches and however slow the service"""
    for size in (1, 7, 64):
        site = Site()
        for number in range(5):
            site.services.contents[f"do_{number}"] = {"origin": f"o_{number}", "originData": {"a": 1}}
            site.services.sourcing_contents[f"o_{number}"] = {"name": "x"}
        site.stubs.delay_ms = 2
        events = [event(f"do_{n % 5}", me_totalRatingsCount=changed(n + 1)) for n in range(60)]
        assert site.transform(*events, batch_size=size).counted(success=60)
        for number in range(5):
            counts = [u["content"]["me_totalRatingsCount"] for u in site.updates if u["identifier"] == f"o_{number}"]
            assert counts == sorted(counts)
            assert len(counts) == 12
        assert size == 1 or site.web.most_in_flight > 1


@pytest.mark.parametrize("die_at", range(1, 7))
def test_killed_at_any_call_and_delivered_again(die_at: int):
    """Before the service has the call, or before its answer arrives: the same event leads to the same end."""
    site = Site(**{"kafka.failed.topic": None})
    steps = iter(range(1, 100))

    def step() -> None:
        if next(steps) == die_at:
            raise RuntimeError("killed")

    def dies(*call: Any) -> tuple[int, str]:
        step()
        answer = site.stubs.in_memory(*call)
        step()
        return answer

    site.http.serve(dies)
    transform = site.stores()
    consumption, sourcing = transform.consumption.open(), transform.sourcing.open()
    with pytest.raises(RuntimeError):
        consumption.read(CONTENT), sourcing.read(ORIGIN), sourcing.update(ORIGIN, CHANNEL, {"me_totalRatingsCount": 15})
    site.http.serve(site.stubs.in_memory)
    assert site.transform(RATED).counted(success=1)
    assert site.services.sourcing_contents[ORIGIN] == {"name": "Plants", "me_totalRatingsCount": 15}


# --- the filter


def selected(value: bytes | None, metrics: list[str] = job.METRICS) -> str:
    """What the first step makes of a record: ``ours``, ``failed`` or ``skipped``; counted so, too."""
    forget_counts("filter")
    outputs = list(SelectMetrics("filter", 8, metrics).process(Record(value, "topic", 0, 1, 2)))
    counts = counted_in_this_process("filter")
    kind = "skipped"
    if outputs:
        kind = "failed" if getattr(outputs[0], "tag", None) == FAILED else "ours"
    outcome = {"skipped": {"skipped-events-count": 1}, "failed": {"failed-events-count": 1}, "ours": {}}[kind]
    assert counts == {"total-events-count": 1, **outcome}
    assert len(outputs) == (kind != "skipped")
    return kind


def escaped(text: str, chance: random.Random) -> str:
    """The text as a JSON string, some of its characters by their numbers."""
    return "".join(f"\\u{ord(c):04x}" if chance.random() < 0.3 else json.dumps(c)[1:-1] for c in text)


names = st.sampled_from([*job.METRICS, "name", "lastUpdatedOn", "ov", "nv", "me_", "me_averageRating ", "\\", '"'])
leaves = st.none() | st.booleans() | st.integers() | st.sampled_from(job.METRICS) | st.text(max_size=5)
values = st.recursive(
    leaves, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=3), max_leaves=8
)
entries = st.fixed_dictionaries({}, optional={"nv": values, "ov": values}) | values
graph_events = st.fixed_dictionaries(
    {"nodeUniqueId": st.just("do_1")},
    optional={
        "transactionData": st.fixed_dictionaries(
            {}, optional={"properties": st.dictionaries(names, entries, max_size=4) | values}
        )
        | values,
        "me_averageRating": values,
    },
)


@settings(max_examples=400, deadline=None)
@given(graph_events, st.randoms(use_true_random=False), st.booleans())
def test_no_event_is_taken_for_a_foreign_one(value: dict[str, Any], chance: random.Random, cut: bool):
    """Names may be escaped in any way, and stand anywhere: what counts is what the whole parse says, by another parser
    than the job's."""

    def write(part: Any) -> str:
        if isinstance(part, dict):
            return "{" + ",".join(f'"{escaped(name, chance)}": {write(inner)}' for name, inner in part.items()) + "}"
        if isinstance(part, list):
            return "[" + ", ".join(map(write, part)) + "]"
        return f'"{escaped(part, chance)}"' if isinstance(part, str) else json.dumps(part)

    text = write(value)
    if cut:
        text = text[: chance.randrange(len(text))]
    try:
        properties = json.loads(text)["transactionData"]["properties"]
        changes = [
            properties[name]["nv"]
            for name in job.METRICS
            if isinstance(properties.get(name), dict) and "nv" in properties[name]
        ]
        expected = "ours" if any(new is not None for new in changes) else "skipped"
    except json.JSONDecodeError:
        expected = "failed"
    except (LookupError, TypeError, AttributeError):
        expected = "skipped"
    assert selected(text.encode()) == expected


def test_what_a_foreign_event_costs():
    """100,000 events that are not for the job: far below a second of CPU for 10,000 of them.

    Counted is the CPU time of the thread in the step, which does not grow when the machine has other work.
    """
    step = SelectMetrics(job.NAME, 8, job.METRICS)
    records = [Record(foreign_event(number), "graph", 0, number, 0) for number in range(1_000)]
    for record in records:
        list(step.process(record))
    begun = time.thread_time()
    for _ in range(20):
        for record in records:
            list(step.process(record))
    spent = time.thread_time() - begun
    assert spent / 2 < 1, f"10,000 events took {spent / 2:.2f} s of CPU"


def test_settings_from_a_file():
    """spec §5"""
    settings = job.Settings(
        **{
            "job.env": "dev",
            "service.content.basePath": SERVICES,
            "service.sourcing.content.basePath": SERVICES,
            "content_read_api": "content/v3/read/",
        }
    )
    assert settings.kafka_input_topic == "dev.learning.graph.events"
    assert settings.kafka_group_id == "dev-metrics-data-transformer-group"
    assert settings.left_alone == ["404"]
    assert settings.metrics == job.METRICS
    assert job.stores(settings).sourcing.http.retry_pauses == (30.0, 30.0, 30.0)
    with pytest.raises(ValidationError):
        Site(**{"data.metrics": []})
