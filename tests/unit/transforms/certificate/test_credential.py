"""What RC is asked to make."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.transforms.certificate.samples import BATCH, COURSE, EVENT, LEARNER, edata, request
from transforms.certificate.credential import credential_request, existing_filters, migration_request, unwanted_texts
from transforms.certificate.request import CertificateRequest

PACKAGED = r"\x00,\\aaa,\aaa,Ø,Ý"
DEPLOYED = PACKAGED + ",\\"
URL = "https://cdn.example.org/content/blue.svg"
KEY = "1-25a8c96b-b254-4720-bbc9-29b37c3c2bec"


def body(setting: str = PACKAGED, **members: Any) -> dict[str, Any]:
    asked = request(**members)
    return credential_request(
        asked, asked.recipients[0], template_url=URL, key_id=KEY, unwanted=unwanted_texts(setting)
    )


def test_the_body():
    """§9 case 1"""
    assert body() == {
        "certificateLabel": "Course Completion Certificate",
        "status": "ACTIVE",
        "templateUrl": URL,
        "training": {"id": COURSE, "name": "Foundations of Numeracy", "type": "Course", "batchId": BATCH},
        "recipient": {"id": LEARNER, "name": "Meera Nair"},
        "issuer": {"url": "https://scert.example.in/", "name": "State Council", "kid": KEY},
        "signatory": EVENT["edata"]["signatoryList"],
    }


def test_the_body_of_a_reissue():
    """§9 case 2"""
    assert body(oldId="1-old") == body() | {"oldId": "1-old"}


@pytest.mark.parametrize("issued_date", ["2021-03-02T00:00:00Z", " "])
def test_the_body_of_a_migration(issued_date):
    """legacy-certificate-migrator §9 case 1"""
    asked = request(issuedDate=issued_date)
    migration = migration_request(
        asked, asked.recipients[0], legacy_id="7c0d", template_url=URL, key_id=KEY, unwanted=()
    )
    expected = body() | {"oldId": "7c0d", "recipient": {"id": LEARNER, "name": "Meera Nair", "type": "user"}}
    assert migration == expected | ({"issuedOn": issued_date} if issued_date.strip() else {})


def test_the_list_of_unwanted_texts():
    assert unwanted_texts(PACKAGED) == ("\\x00", "\\\\aaa", "\\aaa", "Ø", "Ý")
    assert unwanted_texts(",a,,b,") == ("a", "b")
    assert unwanted_texts("") == ()


@pytest.mark.parametrize("setting", [PACKAGED, DEPLOYED])
def test_unwanted_characters(setting):
    """§9 case 8"""
    sent = body(setting, data=[{"recipientName": 'Øyvind "Ý" \\aaa K'}])
    assert orjson.loads(orjson.dumps(sent))["recipient"]["name"] == 'yvind ""  K'


def test_unwanted_characters_anywhere_but_in_names_of_members():
    signatory = EVENT["edata"]["signatoryList"][0] | {"name": "aØ\0", "Øther": ["Ý", {"x": "\\x00z", "none": None}]}
    sent = body(signatoryList=[signatory | {"nothing": None}])
    assert sent["signatory"] == [signatory | {"name": "a", "Øther": ["", {"x": "z"}]}]
    # only the deployed list has a single backslash
    assert body(data=[{"recipientName": "a\\x00b"}])["recipient"]["name"] == "ab"
    assert body(courseName="a\\b")["training"]["name"] == "a\\b"
    assert body(DEPLOYED, courseName="a\\b")["training"]["name"] == "ab"


def test_without_a_signatory_list():
    asked = CertificateRequest.of(edata(signatoryList=None), suppress_signatories=True)
    assert "signatory" not in credential_request(asked, asked.recipients[0], template_url=URL, key_id=KEY, unwanted=())


@given(name=st.text(st.characters(exclude_categories=("Cs",)), min_size=1).filter(str.strip))
def test_nothing_unwanted_is_sent_and_the_rest_is(name):
    sent = body(data=[{"recipientName": name}])["recipient"]["name"]
    assert not set("ØÝ\0") & set(sent)
    if not set("ØÝ\0\\") & set(name):
        assert sent == name


def test_what_finds_a_record_that_was_made_before():
    asked = request()
    assert existing_filters(asked, asked.recipients[0], unwanted=()) == {
        "recipient.id": {"eq": LEARNER},
        "training.batchId": {"eq": BATCH},
        "certificateLabel": {"eq": "Course Completion Certificate"},
    }


@given(name=st.text(st.sampled_from("ØÝ\\ax0\0 "), min_size=1).filter(str.strip))
def test_a_record_is_looked_for_as_it_was_sent(name):
    asked = request(name=name)
    filters = existing_filters(asked, asked.recipients[0], unwanted=unwanted_texts(DEPLOYED))
    sent = body(DEPLOYED, name=name)
    assert filters["certificateLabel"] == {"eq": sent["certificateLabel"]}
    assert filters["recipient.id"] == {"eq": sent["recipient"]["id"]}
    assert filters["training.batchId"] == {"eq": sent["training"]["batchId"]}
