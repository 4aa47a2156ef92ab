"""Logs as JSON: their members, the record at hand, and how a worker comes to write them."""

from __future__ import annotations

import io
import logging
import os
import pickle
import subprocess
import sys
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import orjson
import pytest
from apache_beam.internal import pickler
from apache_beam.runners.worker import statesampler
from apache_beam.runners.worker.log_handler import FnApiLogRecordHandler

from pipelines import logs
from pipelines.logs import Lines, WorkerLogs, at_hand, of_message
from transforms.decode import Record


class Written:
    """A logger that writes as a job does."""

    def __init__(self, formatter: logging.Formatter) -> None:
        self._out = io.StringIO()
        self.handler = logging.StreamHandler(self._out)
        self.handler.setFormatter(formatter)
        self.log = logging.getLogger("transforms.a_step")
        self.log.handlers, self.log.propagate = [self.handler], False
        self.log.setLevel(logging.INFO)

    @property
    def lines(self) -> list[dict]:
        return [orjson.loads(line) for line in self._out.getvalue().splitlines()]


@pytest.fixture
def written() -> Iterator[Written]:
    made = Written(Lines("a-job"))
    yield made
    made.log.handlers, made.log.propagate = [], True


def test_the_members(written: Written) -> None:
    written.log.warning("%s is said\nin two lines", "ü \ud800 \x00")
    [line] = written.lines
    assert list(line) == ["level", "logger", "message", "job", "time"]
    assert line["message"].startswith("ü")
    assert line["message"].endswith("in two lines")
    assert (line["level"], line["logger"], line["job"]) == ("WARNING", "transforms.a_step", "a-job")
    assert datetime.fromisoformat(line["time"]).utcoffset().total_seconds() == 0


def test_an_exception_is_part_of_the_line(written: Written) -> None:
    try:
        raise ValueError("first\nsecond")
    except ValueError:
        written.log.exception("it failed")
    [line] = written.lines
    assert line["message"] == "it failed"
    assert line["exception"].endswith("ValueError: first\nsecond")


def test_the_record_at_hand(written: Written) -> None:
    records = [
        Record(b'{"mid": "LP.1.x", "edata": {"userName": "learner-name"}}', "dev.topic", 1, 41, 7),
        Record(b"no JSON", "dev.topic", 0, 2, 7),
        Record(b'{"mid": 5}', "dev.topic", 0, 3, 7),
        Record(None, "dev.topic", 0, 4, 7),
    ]
    for record in records:
        for _ in at_hand(record):
            written.log.info("seen")
    written.log.info("after")
    places = [
        (line.get("topic"), line.get("partition"), line.get("offset"), line.get("messageId")) for line in written.lines
    ]
    assert places == [
        ("dev.topic", 1, 41, "LP.1.x"),
        ("dev.topic", 0, 2, None),
        ("dev.topic", 0, 3, None),
        ("dev.topic", 0, 4, None),
        (None, None, None, None),
    ]
    assert "learner-name" not in str(written.lines)


@pytest.mark.parametrize("value", [None, b"", b"[]", b"{}", b'{"mid": null}'])
def test_a_message_without_an_id(value: bytes | None) -> None:
    assert of_message(value) == {}


# --- in a worker


@pytest.fixture
def beams_handler(monkeypatch: pytest.MonkeyPatch) -> Iterator[FnApiLogRecordHandler]:
    """The handler that Beam's worker has at its root, without the connection that it sends to."""
    monkeypatch.setattr(logs, "_jobs", set())
    handler = FnApiLogRecordHandler.__new__(FnApiLogRecordHandler)
    logging.Handler.__init__(handler)
    handler.emit = lambda record: None  # type: ignore[method-assign]
    logging.getLogger().addHandler(handler)
    yield handler
    logging.getLogger().removeHandler(handler)


@pytest.mark.parametrize("travel", [lambda w: pickle.loads(pickle.dumps(w)), lambda w: pickler.loads(pickler.dumps(w))])  # noqa: S301
def test_it_works_where_it_arrives(beams_handler: FnApiLogRecordHandler, travel) -> None:
    other = logging.StreamHandler(io.StringIO())
    logging.getLogger().addHandler(other)
    try:
        assert beams_handler.formatter is None
        assert travel(WorkerLogs("a-job", as_json=True)) == WorkerLogs("a-job", as_json=True)
        assert isinstance(beams_handler.formatter, Lines)
        assert other.formatter is None
        record = logging.makeLogRecord({"msg": "hello", "levelname": "INFO", "name": "x"})
        assert orjson.loads(beams_handler.format(record))["job"] == "a-job"
    finally:
        logging.getLogger().removeHandler(other)


def test_text_leaves_beams_handler_as_it_is(beams_handler: FnApiLogRecordHandler) -> None:
    pickle.loads(pickle.dumps(WorkerLogs("a-job", as_json=False)))  # noqa: S301
    assert beams_handler.formatter is None


def test_a_trace_is_sent_once(beams_handler: FnApiLogRecordHandler) -> None:
    """Beam's handler adds the trace by itself, on lines of its own, while the record has one."""
    pickle.loads(pickle.dumps(WorkerLogs("a-job", as_json=True)))  # noqa: S301
    try:
        raise ValueError("x")
    except ValueError as error:
        record = logging.makeLogRecord({"msg": "failed", "exc_info": (ValueError, error, error.__traceback__)})
    assert "ValueError: x" in orjson.loads(beams_handler.format(record))["exception"]
    assert record.exc_info is None


def test_a_line_of_a_group_is_of_the_job_whose_step_is_at_work(
    beams_handler: FnApiLogRecordHandler, monkeypatch: pytest.MonkeyPatch
) -> None:
    for job in ("a-job", "another-job"):
        pickle.loads(pickle.dumps(WorkerLogs(job, as_json=True)))  # noqa: S301

    class At:
        def __init__(self, step: str) -> None:
            self.name_context, self.step_name = self, step

        def current_state(self) -> At:
            return self

    def job_at(tracker: At | None) -> str | None:
        monkeypatch.setattr(statesampler, "get_current_tracker", lambda: tracker)
        return orjson.loads(beams_handler.format(logging.makeLogRecord({"msg": "x"})))["job"]

    assert job_at(At("another-job/Select/ParDo(X)")) == "another-job"
    assert job_at(At("a-job/Select")) == "a-job"
    assert job_at(At("a-job-2/Select")) is None
    assert job_at(None) is None


# --- in a worker as Beam's pool starts it


@pytest.mark.parametrize("as_json", [True, False])
@pytest.mark.parametrize("at_import", ["", "logging.warning('said at import: that makes a handler')\n"])
def test_a_worker_of_the_pool_logs_to_the_pools_standard_error(as_json: bool, at_import: str) -> None:
    """Beam gives it no handler: what is below WARNING would be lost, the rest would have neither time nor level."""
    step = pickle.dumps(WorkerLogs("a-job", as_json=as_json))
    program = (
        "from apache_beam.runners.worker.sdk_worker import SdkHarness\n"
        "import logging, pickle\n"
        f"{at_import}"
        f"pickle.loads({step!r})\n"
        "logging.getLogger('transforms.a_step').info('something %s', 'happened')\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=True, env=environment
    )
    *_, line = done.stderr.splitlines()
    if as_json:
        assert orjson.loads(line).items() >= {"level": "INFO", "message": "something happened", "job": "a-job"}.items()
    else:
        assert line.endswith("INFO transforms.a_step: something happened")


def test_another_process_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logging.getLogger(), "handlers", [])
    pickle.loads(pickle.dumps(WorkerLogs("a-job", as_json=True)))  # noqa: S301
    assert logging.getLogger().handlers == []
