"""The indexes that are read from ``schemas/indexes``."""

from __future__ import annotations

from schemas.elasticsearch import indexes


def test_the_index_of_certificates():
    """spec: collection-certificate-generator §4"""
    assert set(indexes()) == {"certs", "course-batch"}
    mappings = indexes()["certs"]["mappings"]
    assert mappings["dynamic"] is False
    fields = mappings["properties"]
    texts = {"id", "accessCode", "jsonUrl", "pdfUrl", "createdBy", "updatedBy", "reason"}
    assert {name for name, field in fields.items() if field.get("type") == "text" and "raw" in field["fields"]} == texts
    assert {name for name, field in fields.items() if field.get("type") == "date"} == {"createdAt", "updatedAt"}
    assert fields["isRevoked"] == {"type": "boolean"}
    assert fields["recipient"]["properties"].keys() == {"id", "type"}
    assert fields["related"]["properties"].keys() == {"type"}
    assert fields["data"] == {"type": "object"}
    assert len(fields) == len(texts) + 6


def test_the_index_of_batches():
    """spec: user-ownership-transfer §4"""
    mappings = indexes()["course-batch"]["mappings"]
    assert mappings["dynamic"] is False
    fields = mappings["properties"]
    texts = {name for name, field in fields.items() if "raw" in field.get("fields", {})}
    assert texts == {
        *("id", "identifier", "batchId", "courseId", "name", "description", "createdBy", "createdFor"),
        *("createdDate", "updatedDate", "mentors", "enrollmentType"),
    }
    assert all(fields[name]["fields"]["raw"]["normalizer"] == "lower_case" for name in texts)
    dates = {name for name, field in fields.items() if field["type"] == "date"}
    assert dates == {"startDate", "endDate", "enrollmentEndDate", "reportUpdatedOn"}
    numbers = {name for name, field in fields.items() if field["type"] == "long"}
    assert numbers == {"status", "participantCount", "completedCount"}
