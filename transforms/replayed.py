"""From a dead letter back to the record that it was."""

from __future__ import annotations

from typing import Any, NamedTuple

import orjson

from transforms.decode import NotAnObject, parse_object, value_at

__all__ = ["Letter", "letter_of"]

_REPLACED = "\N{REPLACEMENT CHARACTER}"


class Letter(NamedTuple):
    """A dead letter: why it is one, and the record's value as it was.

    Without ``original`` it can not be put back, and ``fault`` says why.
    """

    reason: str
    original: bytes | None
    fault: str = ""


def letter_of(value: bytes | None, job: str) -> Letter:
    """Read a record of the failed topic of ``job``. Never raises.

    An object comes back with all of its members (not to the byte: spaces and order are JSON's own), text as it was.
    spec: core §4
    """
    try:
        letter = parse_object(value)
    except NotAnObject as error:
        return Letter("not a dead letter", None, str(error))
    if "jobName" in letter and "failInfo" in letter:
        return _of_a_record(letter, job)
    if value_at(letter, "metadata.validation_error") is not None:
        return _of_an_assessment(letter, job)
    if job == _ASSESSMENTS and all(isinstance(letter.get(name), str) for name in (*_ENROLMENT, "contentId")):
        # as it came (its spec §6)
        return Letter("a content of another course, or more questions than it has", orjson.dumps(letter))
    if _is_of_a_course(letter):
        return _of_a_course(letter, job)
    return Letter("not a dead letter", None, "of no form that a job writes")


def _of_a_record(letter: dict[str, Any], job: str) -> Letter:
    """The shape of core §4.3."""
    reason = str(value_at(letter, "failInfo.error") or "without a reason").split(" : : List(")[0]
    if letter["jobName"] != _SIGNATURES.get(job, job):
        return Letter(reason, None, f"a letter of {letter['jobName']}")
    rest = {name: member for name, member in letter.items() if name not in ("jobName", "failInfo")}
    if set(rest) != {"rawEvent"}:
        return Letter(reason, orjson.dumps(rest))
    if value_at(letter, "failInfo.cut") is not None:
        return Letter(reason, None, "only the beginning was kept")
    return _of_text(reason, rest["rawEvent"])


_ASSESSMENTS = "assessment-aggregator"
# what jobs sign with that do not by their names (their specs §6)
_SIGNATURES = {_ASSESSMENTS: "AssessmentAggregator", "merge-user-courses": "MergeUserCourses"}


def _of_an_assessment(letter: dict[str, Any], job: str) -> Letter:
    """The event with two members of ``metadata`` more, or the text of a record that was none (core §4.2)."""
    metadata = letter["metadata"]
    reason = str(metadata["validation_error"])
    if job != _ASSESSMENTS or metadata.get("src") != _SIGNATURES[job]:
        return Letter(reason, None, f"a letter of {metadata.get('src')}")
    if metadata.get("cut") is not None:
        return Letter(reason, None, "only the beginning was kept")
    left = {name: member for name, member in metadata.items() if name not in ("validation_error", "src")}
    rest = {name: member for name, member in letter.items() if name != "metadata"}
    if set(rest) <= {"flags", "rawEvent"} and "rawEvent" in rest:
        return _of_text(reason, rest["rawEvent"])
    return Letter(reason, orjson.dumps(rest | ({"metadata": left} if left else {})))


def _of_text(reason: str, text: Any) -> Letter:
    if not isinstance(text, str) or _REPLACED in text:
        return Letter(reason, None, "its bytes were no text, and are not known any more")
    return Letter(reason, text.encode())


_ENROLMENT = ("userId", "courseId", "batchId")


def _is_of_a_course(letter: dict[str, Any]) -> bool:
    return all(isinstance(letter.get(name), str) for name in _ENROLMENT) and isinstance(letter.get("contents"), dict)


def _of_a_course(letter: dict[str, Any], job: str) -> Letter:
    """What a learner would have got in a course without leaf nodes (activity-aggregate-updater §3.5.1).

    The event is made again of the contents that it brought. spec: activity-aggregate-updater §2, enrolment-
    reconciliation §2
    """
    reason = "no leaf nodes in the relation cache"
    ids = {name: letter[name] for name in _ENROLMENT}
    if job == "enrolment-reconciliation":
        edata: dict[str, Any] = {"action": "user-enrolment-sync", "iteration": 1, **ids}
    else:
        contents = [
            {"contentId": content_id, "status": 2}
            for content_id, content in letter["contents"].items()
            if value_at(content, "fromInput") is True
        ]
        if not contents:
            return Letter(reason, None, "it holds no content that an event had brought")
        edata = {"action": "batch-enrolment-update", "iteration": 1, **ids, "contents": contents}
    return Letter(reason, orjson.dumps({"eid": "BE_JOB_REQUEST", "edata": edata}))
