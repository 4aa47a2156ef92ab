"""The page that the demo writes: the learners, why each has or has no certificate, and the certificates themselves.

One file that needs nothing else: no script, no network. What comes from learners is text in it, whatever it holds.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from deploy.local.demo_outcome import Outcome
from deploy.local.end_state import PICTURE
from deploy.local.stage import JOBS

TEMPLATE = Path(__file__).with_suffix(".html")
# each holds a picture of some 30 KB
MOST_CERTIFICATES = 60

WHAT_JOBS_DO = (
    "keeps the trees of published courses where every job finds them",
    "scores attempts at quizzes, question by question, and keeps the best",
    "counts what learners complete, and asks for a certificate when a course is done",
    "carries the record of an old account over to the new one",
    "counts again, from what the LMS has, where events got lost",
    "checks the conditions of every certificate of the batch",
    "makes, stores and registers the certificate, and tells the learner",
)


class Picture(NamedTuple):
    """A certificate of this run and whose it is; ``address`` is the picture, all of it."""

    learner: str
    title: str
    identifier: str
    code: str
    address: str


def page(outcome: Outcome) -> str:
    """The page, HTML. Only certificates whose picture is one that this project makes are shown as pictures."""
    templates = Environment(
        loader=FileSystemLoader(TEMPLATE.parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    pictures = list(_pictures(outcome))
    return templates.get_template(TEMPLATE.name).render(
        outcome=outcome,
        rows=outcome.rows,
        jobs=list(_jobs(outcome)),
        pictures=pictures[:MOST_CERTIFICATES],
        pictures_left_out=len(pictures[MOST_CERTIFICATES:]),
    )


def write(outcome: Outcome, file: Path) -> None:
    """Write the page. Raises OSError."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(page(outcome), encoding="utf-8")


def _jobs(outcome: Outcome) -> Iterator[dict[str, Any]]:
    for (name, job), does in zip(JOBS.items(), WHAT_JOBS_DO, strict=True):
        yield {"name": name, "does": does, "topic": job.topic, "counters": outcome.counted[name]}


def _pictures(outcome: Outcome) -> Iterator[Picture]:
    for row in outcome.rows:
        for verdict in row.verdicts:
            certificate = verdict.certificate
            if certificate is not None and certificate.picture.startswith(PICTURE):
                yield Picture(
                    row.learner.name,
                    verdict.offer.name,
                    certificate.identifier,
                    certificate.entry.get("token", ""),
                    certificate.picture,
                )
