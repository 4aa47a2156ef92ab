"""Whatever arrives, an attempt ends as scored or on the failed topic, and stops nothing."""

from __future__ import annotations

import json
from itertools import count
from typing import Any

import orjson
from hypothesis import event, given, settings
from hypothesis import strategies as st

from io_connectors.memory import MemoryCassandra, MemoryRedis
from io_connectors.memory_http import MemoryHttp
from io_connectors.services import ContentReadApi
from io_connectors.threads import Threads
from transforms.assessment_scores import AssessmentStores, AssessmentTables, ScoreAssessments
from transforms.assessment_selection import SelectAssessments
from transforms.decode import Record

TABLES = AssessmentTables("sunbird_courses.assessment_aggregator", "sunbird_courses.user_activity_agg")

numbers = count()
leaves = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(max_size=8),
    st.sampled_from(["1", "2.5", " ", "", "\x00", "🦜", 1, 2.0, 1_714_644_000_000]),
)
values = st.recursive(
    leaves, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3)
)
IDS = ("userId", "courseId", "batchId", "contentId", "attemptId")
times = st.integers(0, 3)
items = st.fixed_dictionaries(
    {},
    optional=dict.fromkeys(("id", "maxscore", "type", "title", "desc"), leaves)
    | {"params": st.lists(st.dictionaries(st.text(max_size=3), values, max_size=3)) | values},
)
edata = st.fixed_dictionaries(
    {"item": items},
    optional={"score": leaves, "duration": leaves, "resvalues": st.lists(values, max_size=3) | values},
)
answers = st.fixed_dictionaries({"ets": times, "edata": edata})
# those that can be scored, most of them, and then anything in the place of anything
events = st.fixed_dictionaries(
    dict.fromkeys(IDS, st.sampled_from(["a", "b"])) | {"assessmentTs": times},
    optional={"events": st.lists(answers, max_size=3), "mid": leaves, "metadata": values},
)
broken_events = st.fixed_dictionaries(
    {},
    optional=dict.fromkeys((*IDS, "assessmentTs"), leaves)
    | {"events": st.lists(answers | st.fixed_dictionaries({"ets": leaves, "edata": values}) | values) | values},
)


@settings(max_examples=600, deadline=None)
@given(st.lists(events | broken_events | values | st.binary(max_size=30), max_size=6))
def test_every_record_ends_somewhere(given_values: list[Any]) -> None:
    name = f"fuzz-{next(numbers)}"
    http = MemoryHttp(name)
    http.serve(lambda *_: (200, b'{"responseCode":"OK"}'))
    stores = AssessmentStores(
        MemoryCassandra(name),
        MemoryRedis(name, 10),
        MemoryRedis(name, 5),
        ContentReadApi("http://services/read", http),
        Threads("assessments", 2),
    )
    step = ScoreAssessments(
        "assessment-aggregator",
        stores,
        TABLES,
        detail_type="attempt_metrics",
        size=100,
        remembered_seconds=60,
        clock=lambda: 1_700_000_000_000,
        new_id=lambda: "id",
    )
    step.setup()
    select = SelectAssessments("assessment-aggregator", 10)
    records = [one if isinstance(one, bytes) else json.dumps(one).encode() for one in given_values]
    selected = [
        output
        for offset, value in enumerate(records)
        for output in select.process(Record(value, "topic", 0, offset, 0))
    ]
    assert len(selected) == len(records)
    work = [element for element in selected if isinstance(element, tuple)]
    failed = [element for element in selected if not isinstance(element, tuple)]
    event(f"{len(work)} can be scored")
    step.start_bundle()
    for element in work:
        assert not list(step.process(element))
    outputs = step.finish_bundle()
    # an attempt that is older than what came before it leaves nothing
    assert len(outputs) <= len(work)
    for output in failed + [windowed for windowed in outputs if windowed.tag == "failed"]:
        key, value = output.value if isinstance(output.value, tuple) else output.value.value
        assert key is None or isinstance(key, bytes)
        assert isinstance(orjson.loads(value), dict)
        assert b"\n" not in value
        assert b"could not be handled" not in value
