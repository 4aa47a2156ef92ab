"""The names of the steps are an interface: Flink finds the state of a savepoint by them.

A change of ``step_labels.json`` means that a running job can not be restored from a savepoint of the version before
(from its offsets it can). Write the file anew with ``python -m tests.unit.test_step_labels``.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import apache_beam as beam
import pytest
from apache_beam.pipeline import AppliedPTransform, PipelineVisitor

from pipelines import jobs
from pipelines.configuration import load
from transforms.decode import Record

FROZEN = Path(__file__).with_name("step_labels.json")
SECRETS = {"RC_API_KEY": "key", "CLOUD_STORAGE_KEY": "account", "CLOUD_STORAGE_SECRET": "c2VjcmV0"}
SITE = Path(__file__).parents[2] / "deploy" / "config" / "site.yaml"


class _Labels(PipelineVisitor):
    def __init__(self) -> None:
        self.found: list[str] = []

    def visit_transform(self, step: AppliedPTransform) -> None:
        self.found.append(step.full_label)


def labels(pipeline: beam.Pipeline) -> list[str]:
    """The full labels of a pipeline's steps that are not made of others, in its order."""
    visitor = _Labels()
    pipeline.visit(visitor)
    return visitor.found


def labels_of(job: str) -> list[str]:
    """What a job calls its steps, with the settings of the site that is shown to operators."""
    module = jobs.load(job)
    settings = load(module.Settings, [SITE], [], SECRETS, job_name=job).settings
    pipeline = beam.Pipeline()
    records: Any = pipeline | "Records" >> beam.Create([]).with_output_types(Record)
    module.build(records, settings, module.stores(settings))
    return [label for label in labels(pipeline) if not label.startswith("Records")]


def test_every_job_is_frozen_and_no_other() -> None:
    assert list(json.loads(FROZEN.read_text())) == list(jobs.JOBS)


@pytest.mark.parametrize("job", jobs.JOBS)
def test_the_steps_of_a_job_keep_their_names(job: str) -> None:
    assert labels_of(job) == json.loads(FROZEN.read_text()).get(job), "see the docstring of this module"


if __name__ == "__main__":
    FROZEN.write_text(json.dumps({job: labels_of(job) for job in jobs.JOBS}, indent=2) + "\n")
