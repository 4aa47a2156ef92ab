"""Validation, by the messages and the order of the spec, and what is read of an event."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.event_schemas import validator
from tests.unit.transforms.certificate.samples import BATCH, COURSE, EVENT, LEARNER, edata, request
from transforms.certificate.request import CertificateRequest, InvalidRequest, key_id_of, legacy_id, validate

SIGNATORY = EVENT["edata"]["signatoryList"][0]
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["id", "name", "url", "a"]), inner),
    max_leaves=5,
)


def missing(path: str) -> str:
    return f"Mandatory parameter {path} is missing."


def fault(data: Any, *, suppress: bool = False) -> str:
    with pytest.raises(InvalidRequest) as raised:
        validate(data, suppress_signatories=suppress)
    return str(raised.value)


def without(parent: dict[str, Any], member: str, value: Any = ...) -> dict[str, Any]:
    changed = parent | {member: value}
    return {name: value for name, value in changed.items() if value is not ...}


def test_the_sample():
    asked = request()
    assert (asked.user_id, asked.course_id, asked.batch_id) == (LEARNER, COURSE, BATCH)
    assert [(one.id, one.name, one.valid_from) for one in asked.recipients] == [(LEARNER, "Meera Nair", None)]
    assert asked.issuer.public_keys == ()
    assert asked.signatories == [SIGNATORY]
    assert (asked.keys_id, asked.old_id, asked.reissue) == ("", "", False)
    assert (asked.narrative, asked.tag, asked.template_id) == ("Course Completion Certificate", BATCH, "do_2140_tpl")
    assert (asked.logo, asked.description, asked.expiry) == ("", "", "")
    validator("generate-certificate").validate(EVENT)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (None, missing("edata")),
        ({}, missing("edata")),
        ([1], missing("edata")),
        (edata(name=" "), missing("edata.name")),
        (edata(name=5), missing("edata.name")),
        (edata(svgTemplate=...), missing("edata.svgTemplate")),
        (edata(data=[]), missing("edata.data")),
        (edata(data={"recipientName": "x"}), missing("edata.data")),
        (edata(data=[{"recipientName": "learner-1"}, {}]), missing("edata.data.recipientName")),
        (edata(data=["learner-1"]), missing("edata.data.recipientName")),
        (edata(issuer=None), missing("edata.issuer")),
        (edata(issuer={"url": "https://scert.example.in/"}), missing("edata.issuer.name")),
        (edata(issuer={"name": "State Council", "url": ""}), missing("edata.issuer.url")),
        (edata(signatoryList=...), missing("edata.signatoryList")),
        *(
            (edata(signatoryList=[SIGNATORY, without(SIGNATORY, member)]), missing(f"edata.signatoryList.{member}"))
            for member in ("name", "id", "designation", "image")
        ),
        (edata(criteria={}), missing("edata.criteria")),
        (edata(criteria={"narrative": None}), missing("edata.criteria.narrative")),
        (edata(tag="a-b"), "Invalid value a-b for parameter tag."),
        (edata(tag="a b"), "Invalid value a b for parameter tag."),
        (edata(tag="a\nb"), "Invalid value a b for parameter tag."),
        (edata(tag=["a"]), "Invalid value of type list for parameter edata.tag."),
        (edata(basePath="dev.example.org"), "Invalid value dev.example.org for parameter certificate.basePath."),
        (edata(basePath="gopher://x"), "Invalid value gopher://x for parameter certificate.basePath."),
        (edata(basePath="https://x/a b"), "Invalid value https://x/a b for parameter certificate.basePath."),
        (edata(basePath="https://[x"), "Invalid value https://[x for parameter certificate.basePath."),
        (edata(keys={"id": " "}), missing("edata.keys.id")),
        (edata(keys={"other": 1}), missing("edata.keys.id")),
        (
            edata(issuer={"name": "n", "url": "u", "publicKey": ["https://x/keys/12_a.json", 7]}, keys={"id": "1"}),
            "Invalid value [https://x/keys/12_a.json, 7] for parameter edata.issuer.publicKey."
            " ,public key attribute must contain keys.id value",
        ),
        # the order: each of these has a second fault, which is not named
        (edata(svgTemplate="", data=[]), missing("edata.svgTemplate")),
        (edata(data=[], issuer=None), missing("edata.data")),
        (edata(issuer=None, signatoryList=None), missing("edata.issuer")),
        (edata(signatoryList=None, criteria=None), missing("edata.signatoryList")),
        (edata(criteria=None, tag="-"), missing("edata.criteria")),
        (edata(tag="-", basePath="-"), "Invalid value - for parameter tag."),
        (edata(basePath="-", keys={"id": ""}), "Invalid value - for parameter certificate.basePath."),
    ],
)
def test_what_is_refused(data, reason):
    """§9 case 6, case 10"""
    assert fault(data) == reason


@pytest.mark.parametrize("letter", "!@#$%^&*()+=,.?/\":;'{}|<>- \t\n\r")
def test_what_a_tag_must_not_hold(letter):
    assert fault(edata(tag=f"a{letter}b")).startswith("Invalid value a")
    assert not validator("generate-certificate").is_valid({"edata": edata(tag=f"a{letter}b")})


@pytest.mark.parametrize("tag", ["", " ", None, ..., "0140_x", "कक्षा", "a" * 255, 140])
def test_tags_that_pass(tag):
    validate(edata(tag=tag), suppress_signatories=False)
    validator("generate-certificate").validate({"edata": edata(tag=tag)})


@pytest.mark.parametrize(
    "address", ["", None, "HTTP://x", "https://x:80/a?b=c#d", "mailto:a@example.org", "file:/tmp", "https://x/é"]
)
def test_base_paths_that_pass(address):
    validate(edata(basePath=address), suppress_signatories=False)


@pytest.mark.parametrize("listed", [None, [], {}, "x", [5], [{}], [without(SIGNATORY, "name", "")]])
def test_a_bad_signatory_list_passes_when_suppressed(listed):
    """§9 case 6"""
    assert fault(edata(signatoryList=listed)).startswith("Mandatory parameter edata.signatoryList")
    asked = CertificateRequest.of(edata(signatoryList=listed), suppress_signatories=True)
    assert asked.signatories == (listed if isinstance(listed, list) else None)


def test_suppressed_signatories_do_not_hide_what_follows():
    assert fault(edata(signatoryList=None, criteria=None), suppress=True) == missing("edata.criteria")


@pytest.mark.parametrize(
    ("public_key", "key_id"),
    [
        ("https://x/keys/12_publicKey.json", "12"),
        ("http://x/certs/7_a_b.json?v=1_2", "7"),
        ("https://x/keys/12.json", "12.json"),
        ("12", "12"),
        ("5_6", "5_6"),
    ],
)
def test_the_id_of_a_public_key(public_key, key_id):
    assert key_id_of(public_key) == key_id


@pytest.mark.parametrize("keys_id", ["12", 12, 12.0, "7"])
def test_keys_that_are_among_the_issuer_s(keys_id):
    """§9 case 10"""
    issuer = {"name": "n", "url": "u", "publicKey": ["https://x/keys/12_publicKey.json", 7]}
    asked = request(issuer=issuer, keys={"id": keys_id})
    assert asked.issuer.public_keys == ("https://x/keys/12_publicKey.json", "7")
    assert asked.keys_id == str(keys_id).removesuffix(".0")


def test_recipients():
    data = [
        {"recipientName": "a", "recipientId": "learner-1", "validFrom": "2024-01-01T00:00:00Z"},
        {"recipientName": "b", "recipientId": " "},
        {"recipientName": "c", "recipientId": 5},
    ]
    asked = request(data=data, userId="learner-9")
    assert [one.id for one in asked.recipients] == ["learner-1", "learner-9", "5"]
    assert [one.valid_from for one in asked.recipients] == ["2024-01-01T00:00:00Z", None, None]


def test_without_what_is_optional():
    names = ("related", "userId", "oldId", "courseName", "templateId", "issuedDate", "tag", "basePath", "keys")
    asked = request(**dict.fromkeys(names), data=[{"recipientName": "a"}])
    assert (asked.batch_id, asked.course_id, asked.user_id, asked.tag, asked.related) == ("", "", "", "", {})
    assert asked.recipients[0].id == ""


@given(
    changes=st.dictionaries(st.sampled_from([*EVENT["edata"], "keys", "expiry", "logo"]), JSON),
    suppress=st.booleans(),
)
def test_whatever_the_types_only_invalid_request_is_raised(changes, suppress):
    asked, reason = None, "a reason"
    try:
        asked = CertificateRequest.of(edata() | changes, suppress_signatories=suppress)
    except InvalidRequest as error:
        reason = str(error)
    assert reason.isprintable()
    assert asked is None or (asked.name.strip() and all(one.name.strip() for one in asked.recipients))


@given(JSON)
def test_whatever_edata_is_only_invalid_request_is_raised(data):
    with pytest.raises(InvalidRequest):
        CertificateRequest.of(data, suppress_signatories=True)


@pytest.mark.parametrize(
    ("members", "answer"),
    [
        ({"identifier": "a", "oldId": "a"}, "a"),
        ({"identifier": "a"}, "a"),
        ({"identifier": " ", "oldId": "b"}, "b"),
    ],
)
def test_the_certificate_to_migrate(members, answer):
    assert legacy_id(edata(**members)) == answer


@pytest.mark.parametrize(
    ("members", "reason"),
    [
        ({"identifier": "a", "oldId": "b"}, "edata.identifier and edata.oldId differ."),
        ({"identifier": " ", "oldId": None}, missing("edata.identifier")),
        ({"identifier": "a", "userId": ""}, missing("edata.userId")),
        ({"identifier": "a", "related": None}, missing("edata.related")),
        ({"identifier": "a", "related": {"courseId": COURSE}}, missing("edata.related.batchId")),
    ],
)
def test_what_can_not_be_migrated(members, reason):
    """legacy-certificate-migrator §9 case 10"""
    with pytest.raises(InvalidRequest) as raised:
        legacy_id(edata(**members))
    assert str(raised.value) == reason
