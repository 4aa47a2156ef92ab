"""Several jobs in one: what a group's file may say, and how its jobs are put together."""

from __future__ import annotations

from pathlib import Path

import apache_beam as beam
import orjson
import pytest
from typer.testing import CliRunner

from pipelines import jobs, runtime
from pipelines.command_line import app
from pipelines.groups import Group, beam_options_of, load_group
from pipelines.in_memory import MemorySink, MemorySource
from pipelines.settings import UsageError
from tests.unit.test_step_labels import SECRETS, SITE, labels

MERGE, RECONCILE = "merge-user-courses", "enrolment-reconciliation"


def group(directory: Path, text: str, *overrides: str, **files: str) -> Group:
    for name, content in files.items():
        (directory / f"{name}.yaml").write_text(content)
    (directory / "group.yaml").write_text(text)
    return load_group(directory / "group.yaml", overrides, {})


def refused(directory: Path, text: str, *overrides: str, **files: str) -> str:
    with pytest.raises(UsageError) as caught:
        group(directory, text, *overrides, **files)
    return str(caught.value)


def test_each_job_has_its_own_files_and_the_overrides(tmp_path: Path) -> None:
    found = group(
        tmp_path,
        f"group: learning\njobs:\n  {MERGE}: [site.yaml]\n  {RECONCILE}: [site.yaml, own.yaml]\n",
        "lms-cassandra.port=9999",
        site="job.env: dev\nlms-cassandra.host: cassandra\n",
        own="kafka.groupId: mine\n",
    )
    merge, reconcile = (member.loaded.settings for member in found.members)
    assert found.name == "learning"
    assert [member.job.NAME for member in found.members] == [MERGE, RECONCILE]
    assert (merge.kafka_group_id, reconcile.kafka_group_id) == ("dev-merge-courses-group", "mine")
    assert {s.lms_cassandra_host for s in (merge, reconcile)} == {"cassandra"}
    assert {s.lms_cassandra_port for s in (merge, reconcile)} == {9999}


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("jobs: {merge-user-courses: []}", "group: Field required"),
        ("group: a\njobs: {}", "jobs: Dictionary should have at least 1 item"),
        ("group: a\njobs: {merge-user-courses: site.yaml}", "jobs.merge-user-courses: Input should be a valid list"),
        ("group: a\njob: {}\njobs: {merge-user-courses: []}", "job: Extra inputs are not permitted"),
        ("group: a\njobs: {merge-user-course: []}", "merge-user-course: no such job. Did you mean merge-user-courses?"),
        ("group: a\njobs: {merge-user-courses: [none.yaml]}", "merge-user-courses: "),
        ("- a", "the file: "),
        ("a: [", "is not YAML"),
    ],
)
def test_a_file_that_is_no_group_says_why(tmp_path: Path, text: str, says: str) -> None:
    assert says in refused(tmp_path, text)


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no such file"):
        load_group(tmp_path / "none.yaml", [], {})


def test_two_jobs_may_not_share_a_topic_s_records(tmp_path: Path) -> None:
    text = f"group: a\njobs: {{{MERGE}: [site.yaml], {RECONCILE}: [site.yaml]}}"
    said = refused(tmp_path, text, site="kafka.groupId: one\nkafka.input.topic: topic\n")
    assert "would both read topic as one" in said


def test_the_smallest_bundle_and_the_largest_parallelism_hold(tmp_path: Path) -> None:
    found = group(
        tmp_path,
        f"group: a\njobs: {{{MERGE}: [one.yaml], {RECONCILE}: [two.yaml]}}",
        one="task.parallelism: 1\n",
        two="task.parallelism: 3\n",
    )
    bundles = [member.job.beam_options(member.loaded.settings)["max_bundle_size"] for member in found.members]
    assert beam_options_of(found.members) == {"max_bundle_size": min(bundles), "parallelism": 3}


def test_jobs_that_contradict_each_other_are_refused_unless_the_command_decides(tmp_path: Path) -> None:
    found = group(
        tmp_path,
        f"group: a\njobs: {{{MERGE}: [one.yaml], {RECONCILE}: [two.yaml]}}",
        one="flink.master: one:8081\n",
        two="flink.master: two:8081\n",
    )
    with pytest.raises(UsageError, match="--flink_master=two:8081"):
        beam_options_of(found.members)
    assert "flink_master" not in beam_options_of(found.members, ["--flink_master=three:8081"])


def test_the_command_says_what_is_wrong_without_a_trace(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["run-group", str(tmp_path / "none.yaml")])
    assert result.exit_code == 2
    assert "no such file" in result.output
    assert "Traceback" not in result.output


def test_all_jobs_handle_their_own_records_and_their_steps_carry_their_names() -> None:
    sinks = {name: MemorySink(f"group-{name}") for name in (MERGE, RECONCILE)}
    with beam.Pipeline() as pipeline:
        for name, sink in sinks.items():
            module = jobs.load(name)
            source = MemorySource((f"no JSON of {name}".encode(),))
            runtime.assemble(pipeline, module, module.Settings(**{"job.env": "dev"}), source, sink, name)
        steps = labels(pipeline)
    assert all(step.split("/")[0] in sinks for step in steps)
    letters = {name: [orjson.loads(v) for vs in sink.written.values() for _, v in vs] for name, sink in sinks.items()}
    assert {name: [letter["rawEvent"] for letter in of] for name, of in letters.items()} == {
        name: [f"no JSON of {name}"] for name in sinks
    }


def test_the_groups_that_are_shown_hold_every_light_job_once() -> None:
    files = sorted((SITE.parent / "groups").glob("*.yaml"))
    groups = [load_group(file, [], SECRETS) for file in files]
    assert [found.name for found in groups] == [file.stem for file in files]
    for found in groups:
        beam_options_of(found.members)  # no job contradicts another
    held = [member.job.NAME for found in groups for member in found.members]
    alone = {"activity-aggregate-updater", "assessment-aggregator", "notification-job"}
    assert sorted([*held, *alone]) == list(jobs.JOBS)
