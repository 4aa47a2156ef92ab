"""A sourcing repository of questions and question sets: definitions, packages, read API and files."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping
from typing import Any

import orjson

SET, IN_SECTION, DIRECT = "do_set", "do_q1", "do_q2"
COLLECTION, UNIT = "do_book", "do_unit"

QUESTION = {
    "schema": {
        "properties": {
            **{name: {"type": "string"} for name in ("name", "identifier", "appIcon", "body", "status")},
            **{name: {"type": "array"} for name in ("subject",)},
            **{name: {"type": "object"} for name in ("variants", "timeLimits", "editorState")},
        }
    },
    "config": {
        "relations": {"questionSet": {"type": "associatedTo", "direction": "in", "objects": ["QuestionSet"]}},
        "external": {
            "tableName": "question_data",
            "properties": {
                "body": {"type": "blob"},
                "answer": {"type": "blob"},
                "editorState": {"type": "string"},
                "responseDeclaration": {"type": "string"},
            },
            "primaryKey": ["identifier"],
        },
    },
}
QUESTION_SET = {
    "schema": {
        "properties": {
            **{name: {"type": "string"} for name in ("name", "identifier", "appIcon")},
            **{name: {"type": "object"} for name in ("variants", "timeLimits")},
        }
    },
    "config": {
        "relations": {
            "children": {"type": "associatedTo", "direction": "out", "objects": ["Question", "QuestionSet"]},
            "collection": {"type": "hasSequenceMember", "direction": "in", "objects": ["Collection"]},
            "none": {"type": "x", "direction": "in", "objects": []},
        },
        "external": {
            "tableName": "questionset_hierarchy",
            "properties": {"hierarchy": {"type": "string"}, "instructions": {"type": "string"}},
            "primaryKey": ["identifier"],
        },
    },
}
SCHEMAS = {
    f"{name}/1.0/{document}.json": found[document]
    for name, found in (("question", QUESTION), ("questionset", QUESTION_SET))
    for document in ("schema", "config")
}


def package(**documents: Any) -> bytes:
    """A package with these documents (``manifest={…}`` is manifest.json) beside a file of its own."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(_entry("assets/"), "")
        archive.writestr(_entry("assets/a.png"), b"png")
        for name, document in documents.items():
            archive.writestr(_entry(f"{name}.json"), orjson.dumps(document))
    return file.getvalue()


def _entry(name: str) -> zipfile.ZipInfo:
    # the same bytes at any time
    return zipfile.ZipInfo(name, (2024, 6, 12, 8, 0, 0))


class Source:
    """Everything that a question set with a section needs; ``base`` is where its services are."""

    def __init__(self, base: str) -> None:
        self.base = base
        self.files: dict[str, bytes] = {"icon.png": b"icon", "x_spine.ecar": b"", "old.png": b"old"}
        self.reads: dict[str, dict[str, Any]] = {}
        for question in (IN_SECTION, DIRECT):
            self.add_question(question)
        self.hierarchy: dict[str, Any] = {
            "identifier": SET,
            "objectType": "QuestionSet",
            "downloadUrl": self.url(f"{SET}.ecar"),
            "variants": self.variants(SET),
            "children": [
                {
                    "identifier": "do_section",
                    "objectType": "QuestionSet",
                    "visibility": "Parent",
                    "name": "Section",
                    "children": [self.entry(IN_SECTION)],
                },
                self.entry(DIRECT),
            ],
        }
        self.set_metadata: dict[str, Any] = {
            "identifier": SET,
            "name": "Algebra test",
            "objectType": "QuestionSet",
            "mimeType": "application/vnd.sunbird.questionset",
            "status": "Live",
            "pkgVersion": 1,
            "appIcon": self.url("icon.png"),
            "downloadUrl": self.url(f"{SET}.ecar"),
            "variants": self.variants(SET),
            "instructions": {"default": "Read well"},
            "children": [{"identifier": "do_section"}],
            "collection": [],
            "timeLimits": {"maxTime": "60"},
            "subject": ["Maths", "Maths", "Science"],
        }
        self.reads[f"questionset/{SET}"] = self.set_metadata
        self.pack()

    def url(self, file: str) -> str:
        return f"{self.base}/files/{file}"

    def variants(self, name: str) -> dict[str, Any]:
        return {
            "full": {"ecarUrl": self.url(f"{name}.ecar"), "size": 7},
            "spine": {"ecarUrl": self.url("x_spine.ecar"), "size": 7},
            "other": {"ecarUrl": self.url("other.ecar"), "size": 7},
        }

    def add_question(self, question: str, **changed: Any) -> None:
        read = {
            "identifier": question,
            "name": f"Question {question}",
            "objectType": "Question",
            "body": "<p>1 + 1 ✓</p>",
            "answer": "<p>2</p>",
            "editorState": {"question": "1 + 1"},
            "responseDeclaration": None,
            "lastPublishedBy": "learner-1",
            "questionSet": [],
            "appIcon": self.url("icon.png"),
            "downloadUrl": "https://sourcing.example.org/not-here.ecar",
            "choices": [{"value": 1}, {"value": 2}],
            **changed,
        }
        self.reads[f"question/{question}"] = read
        manifest = {"archive": {"items": [{"identifier": question.upper(), "name": "A", "only": "in the manifest"}]}}
        self.files[f"{question}.ecar"] = package(manifest=manifest)

    def entry(self, question: str, **changed: Any) -> dict[str, Any]:
        """A question in the hierarchy."""
        return {
            "identifier": question,
            "objectType": "Question",
            "visibility": "Parent",
            "name": "entry",
            "downloadUrl": self.url(f"{question}.ecar"),
            "variants": self.variants(question),
            "appIcon": self.url("old.png"),
            "index": 1,
            **changed,
        }

    def pack(self, **more: Any) -> None:
        """The set's package, of what the set is now."""
        manifest = {"archive": {"items": [{"identifier": SET, "name": "A", "author": "SCERT"}]}}
        documents: Mapping[str, Any] = {"manifest": manifest, "hierarchy": {"questionset": self.hierarchy}, **more}
        self.files[f"{SET}.ecar"] = package(**documents)

    def event(self, identifier: str = SET, metadata: dict[str, Any] | None = None, **edata: Any) -> dict[str, Any]:
        """The event of a set, or of a question; members that are None are left out."""
        kind = "QuestionSet" if identifier == SET else "Question"
        whole = {"identifier": identifier, "downloadUrl": self.url(f"{identifier}.ecar"), "processId": "process-1"}
        body: dict[str, Any] = {
            "action": "auto-create",
            "iteration": 1,
            "objectType": kind,
            "repository": f"{self.base}/{kind.lower()}/v1/read/{identifier}",
            "collection": [{"identifier": COLLECTION, "unitId": UNIT}],
            "metadata": {**whole, **(metadata or {})},
            **edata,
        }
        return {
            "eid": "BE_JOB_REQUEST",
            "context": {"channel": "0130928278"},
            "object": {"id": identifier, "ver": "1"},
            "edata": {name: value for name, value in body.items() if value is not None},
        }
