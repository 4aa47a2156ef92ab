"""Who gets a certificate, and the enrolment's list afterwards."""

from __future__ import annotations

import pytest

from tests.unit.transforms.certificate.samples import NOW, request
from transforms.certificate.enrolment_entry import (
    Standing,
    credential_entry,
    has_newer_credential,
    legacy_entry,
    migrated_entry,
    standing,
    with_entry,
)

NAME = "Course Completion Certificate"
MERIT = {"name": "Merit", "identifier": "1-m", "token": ""}
COMPLETION = {"name": "course completion certificate", "identifier": "1-old", "type": "TrainingCertificate"}
TEMPLATE = "https://obj.dev.example.org/sunbird-content-dev/content/do_2140_tpl/artifact/blue.svg"


@pytest.mark.parametrize(
    ("issued", "old_id", "answer"),
    [
        (None, "", Standing.GO_ON),
        ([], "", Standing.GO_ON),
        (None, "1-old", Standing.GO_ON),
        ([MERIT], "", Standing.GO_ON),
        ([MERIT], "1-old", Standing.GO_ON),
        ([MERIT, COMPLETION], "", Standing.ALREADY_ISSUED),
        ([MERIT, COMPLETION], "1-old", Standing.GO_ON),
        ([COMPLETION, COMPLETION | {"identifier": "1-b"}], "1-b", Standing.GO_ON),
        ([COMPLETION | {"identifier": "1-new"}], "1-old", Standing.REISSUED_ALREADY),
        # another certificate's id
        ([MERIT, COMPLETION | {"identifier": "1-new"}], "1-m", Standing.REISSUED_ALREADY),
        ([{"identifier": "1-x"}, {"name": None}], "", Standing.GO_ON),
    ],
)
def test_what_is_to_be_done(issued, old_id, answer):
    """§9 case 4, case 5"""
    assert standing(issued, NAME, old_id) is answer


def test_the_same_reissue_twice():
    """§9 case 5"""
    entry = credential_entry(request(oldId="1-old"), "1-new", "TrainingCertificate", NOW)
    assert standing([COMPLETION], NAME, "1-old") is Standing.GO_ON
    assert standing(with_entry([COMPLETION], entry), NAME, "1-old") is Standing.REISSUED_ALREADY


def test_the_others_stay_in_their_order():
    """§9 case 2, case 14"""
    entry = credential_entry(request(), "1-new", "TrainingCertificate", NOW)
    assert entry == {
        "name": NAME,
        "identifier": "1-new",
        "token": "",
        "lastIssuedOn": "2024-06-12T08:00:06.123+0000",
        "templateUrl": TEMPLATE,
        "type": "TrainingCertificate",
    }
    before = [COMPLETION, MERIT, COMPLETION, {"name": "Quiz"}, {"identifier": "no name"}]
    assert with_entry(before, entry) == [MERIT, {"name": "Quiz"}, {"identifier": "no name"}, entry]
    assert len(before) == 5
    assert with_entry(None, entry) == [entry]


def test_the_entry_keeps_the_placeholder():
    entry = credential_entry(request(svgTemplate="CLOUD_BASE_PATH/a.svg"), "1-new", "TrainingCertificate", NOW)
    assert entry["templateUrl"] == "CLOUD_BASE_PATH/a.svg"


def test_a_legacy_entry():
    """§9 case 9"""
    assert legacy_entry(request(), "uuid", "B2U4Z5", NOW) == {
        "name": NAME,
        "identifier": "uuid",
        "token": "B2U4Z5",
        "lastIssuedOn": "2024-06-12T08:00:06.123+0000",
    }


@pytest.mark.parametrize("issued_date", ["2021-03-02T00:00:00Z", "", None])
def test_a_migrated_entry(issued_date):
    """legacy-certificate-migrator §9 case 1"""
    entry = migrated_entry(request(issuedDate=issued_date), "1-m1", "TrainingCertificate")
    dated = {"lastIssuedOn": issued_date} if issued_date else {}
    rest = {"name": NAME, "identifier": "1-m1", "token": "", "templateUrl": TEMPLATE, "type": "TrainingCertificate"}
    assert entry == rest | dated


@pytest.mark.parametrize(
    ("entry", "newer"),
    [
        ({"name": NAME.lower(), "identifier": "1-x", "type": "TrainingCertificate"}, True),
        ({"name": NAME, "identifier": "legacy", "type": "TrainingCertificate"}, False),
        ({"name": NAME, "identifier": "1-x"}, False),
        ({"name": "Merit", "identifier": "1-x", "type": "TrainingCertificate"}, False),
    ],
)
def test_a_newer_credential(entry, newer):
    """legacy-certificate-migrator §9 case 7"""
    assert has_newer_credential([MERIT, entry], NAME, "legacy", "TrainingCertificate") is newer
    assert not has_newer_credential(None, NAME, "legacy", "TrainingCertificate")
