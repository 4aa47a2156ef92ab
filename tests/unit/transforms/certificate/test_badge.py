"""The document: its members, its meaning as JSON-LD, its signature."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import orjson
import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from pyld import jsonld

from schemas.json_ld import PATHS, context
from tests.unit.transforms.certificate.samples import BASE, BATCH, COURSE, ID, LEARNER, NOW, certificate
from transforms.certificate.badge import badge, registry_request, signature, stored_document
from transforms.certificate.dates import InvalidDate

CONTEXT = f"{BASE}/v1/context.json"
SIGNED = {
    "keys": {"id": "12"},
    "issuer": {"name": "n", "url": "https://u", "publicKey": ["https://x/keys/12_publicKey.json", 7]},
}
OBI, SCHEMA = "https://w3id.org/openbadges#", "http://schema.org/"
SECURITY, EXTENSIONS = "https://w3id.org/security#", "https://w3id.org/openbadges/extensions#"


def test_a_hosted_badge():
    """§9 case 9"""
    one = certificate()
    assert badge(one) == {
        "@context": CONTEXT,
        "id": f"{BASE}/{BATCH}/{ID}",
        "type": ["Assertion", "Extension", "extensions:CertificateExtension"],
        "issuedOn": "2024-06-12T00:00:00Z",
        "recipient": {
            "@context": CONTEXT,
            "identity": LEARNER,
            "type": ["id"],
            "hashed": False,
            "name": "Meera Nair",
        },
        "badge": {
            "@context": CONTEXT,
            "id": f"{BASE}/{BATCH}/Badge.json",
            "type": ["BadgeClass"],
            "name": "Foundations of Numeracy",
            "description": "",
            "image": "",
            "criteria": {"type": ["Criteria"], "narrative": "Course Completion Certificate"},
            "issuer": {
                "@context": CONTEXT,
                "id": f"{BASE}/Issuer.json",
                "type": ["Issuer"],
                "name": "State Council",
                "url": "https://scert.example.in/",
                "publicKey": [],
            },
        },
        "evidence": {
            "@context": CONTEXT,
            "id": f"{BASE}/Evidence.json",
            "type": ["Evidence", "Extension", "extensions:TrainingEvidence"],
            "name": "Foundations of Numeracy",
        },
        "expires": "",
        "verification": {"type": ["hosted"]},
        "revoked": False,
        "signatory": [
            {
                "@context": f"{BASE}/v1/extensions/SignatoryExtension/context.json",
                "identity": "DIR",
                "type": ["Extension", "extensions:SignatoryExtension"],
                "designation": "Director",
                "image": "https://obj.dev.example.org/sig/dir.png",
                "name": "R. Iyer",
            }
        ],
    }
    assert stored_document(badge(one), "data:,x") == badge(one) | {"printUri": "data:,x"}
    assert one.qr_text == f"{BASE}/{ID}"


def test_addresses_with_and_without_a_tag():
    """§9 case 9"""
    assert certificate().object_key == f"{BATCH}/{ID}.json"
    assert certificate().json_url == f"{BASE}/{BATCH}/{ID}.json"
    untagged = certificate(tag=" ")
    assert untagged.object_key == f"{ID}.json"
    assert untagged.json_url == f"{BASE}/{ID}.json"
    assert badge(untagged)["id"] == f"{BASE}/{ID}"
    assert badge(untagged)["badge"]["id"] == f"{BASE}/Badge.json"


def test_what_is_only_there_sometimes():
    without = badge(certificate(courseName=""))
    assert "evidence" not in without
    assert without["badge"]["name"] == "Course Completion Certificate"
    assert "validFrom" not in without
    full = badge(
        certificate(
            data=[{"recipientName": "a", "validFrom": "2024-01-01T00:00:00Z"}],
            description="About",
            logo="https://x/l.png",
            expiry="1m",
        )
    )
    assert full["validFrom"] == "2024-01-01T00:00:00Z"
    assert (full["badge"]["description"], full["badge"]["image"]) == ("About", "https://x/l.png")
    assert full["expires"] == "2024-07-12T00:00:00Z"


def test_signatories_of_a_list_that_was_let_pass():
    one = certificate()
    listed = replace(one.request, signatories=[{"id": "a", "image": 5}, "x", None])
    (signatory,) = badge(replace(one, request=listed))["signatory"]
    assert (signatory["identity"], signatory["name"], signatory["image"]) == ("a", "", "")
    assert badge(replace(one, request=replace(listed, signatories=None)))["signatory"] == []


@pytest.mark.parametrize("members", [{"issuedDate": "June"}, {"expiry": "3w"}])
def test_bad_dates(members):
    """§9 case 12"""
    with pytest.raises(InvalidDate):
        certificate(**members)


def test_a_signed_badge():
    """§9 case 10"""
    one = certificate(**SIGNED)
    document = badge(one)
    creator = f"{BASE}/keys/12_publicKey.json"
    assert document["badge"]["issuer"]["publicKey"] == [
        "https://x/keys/12_publicKey.json",
        f"{BASE}/keys/7_publicKey.json",
    ]
    assert document["verification"] == {"type": ["SignedBadge"], "creator": creator}
    assert {"printUri", "signature"} & set(document) == set()
    made = signature(one, "c2ln", NOW)
    assert made == {
        "type": "LinkedDataSignature2015",
        "creator": creator,
        "created": "2024-06-12T08:00:06.123Z",
        "signatureValue": "c2ln",
    }
    assert stored_document(document, "data:,x", made) == document | {"printUri": "data:,x", "signature": made}
    assert badge(certificate(keys={"id": "5"}))["badge"]["issuer"]["publicKey"] == [f"{BASE}/keys/5_publicKey.json"]


def nulls(value: Any) -> Iterator[None]:
    if value is None:
        yield None
    elif isinstance(value, dict | list):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from nulls(inner)


@pytest.mark.parametrize("members", [{}, SIGNED, {"courseName": None, "tag": None, "logo": None, "keys": None}])
def test_there_is_no_null(members):
    document = badge(certificate(**members))
    assert list(nulls(document)) == []
    assert orjson.loads(orjson.dumps(document)) == document


# --- the signature, by the rule of the service: §3.5.3


def ordered(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: ordered(value[name]) for name in sorted(value)}
    if isinstance(value, list) and value and isinstance(value[0], dict):
        return sorted(map(ordered, value), key=lambda element: base64.b64encode(orjson.dumps(element)))
    return sorted(value) if isinstance(value, list) else value


def test_a_signature_over_the_badge_verifies():
    """§9 case 10"""
    rule = padding.PSS(padding.MGF1(SHA256()), salt_length=16)
    key = rsa.generate_private_key(65537, 2048)
    one = certificate(**SIGNED)
    value = key.sign(orjson.dumps(ordered(badge(one))), rule, SHA256())
    stored = stored_document(badge(one), "data:,x", signature(one, base64.b64encode(value).decode(), NOW))

    # what a verifier has: the stored certificate
    read = orjson.loads(orjson.dumps(stored))
    claim = {name: member for name, member in read.items() if name not in ("signature", "printUri")}
    signed = base64.b64decode(read["signature"]["signatureValue"])
    key.public_key().verify(signed, orjson.dumps(ordered(claim)), rule, SHA256())
    claim["recipient"]["name"] = "somebody else"
    with pytest.raises(InvalidSignature):
        key.public_key().verify(signed, orjson.dumps(ordered(claim)), rule, SHA256())


# --- JSON-LD


def expand(document: dict[str, Any]) -> dict[str, Any]:
    """Expanded with the terms that are kept here, and nothing else."""

    def load(url: str, _options: Any) -> dict[str, Any]:
        terms = context(url.removeprefix(f"{BASE}/"))
        return {"contentType": "application/ld+json", "contextUrl": None, "documentUrl": url, "document": terms}

    dropped: list[Any] = []
    (expanded,) = jsonld.expand(document, {"documentLoader": load}, on_property_dropped=dropped.append)
    assert dropped == []
    return expanded


def values(node: dict[str, Any], iri: str) -> list[Any]:
    return [value.get("@value", value.get("@id")) for value in node[iri]]


@pytest.mark.parametrize("members", [{}, SIGNED])
def test_the_document_is_json_ld(members):
    one = certificate(**members, data=[{"recipientName": "a", "validFrom": "2024-01-01T00:00:00Z"}])
    made = signature(one, "c2ln", NOW) if members else None
    expanded = expand(stored_document(badge(one), "data:image/svg+xml,x", made))
    assert expanded["@id"] == f"{BASE}/{BATCH}/{ID}"
    assert expanded["@type"] == [OBI + "Assertion", OBI + "Extension", EXTENSIONS + "CertificateExtension"]
    assert expanded[OBI + "issueDate"] == [
        {"@value": "2024-06-12T00:00:00Z", "@type": "http://www.w3.org/2001/XMLSchema#dateTime"}
    ]
    (recipient,) = expanded[OBI + "recipient"]
    assert values(recipient, OBI + "identityHash") == [LEARNER]
    assert values(recipient, SCHEMA + "name") == ["a"]
    assert values(recipient, OBI + "hashed") == [False]
    (the_badge,) = expanded[OBI + "badge"]
    assert the_badge["@id"] == f"{BASE}/{BATCH}/Badge.json"
    assert the_badge["@type"] == [OBI + "BadgeClass"]
    (issuer,) = the_badge[OBI + "issuer"]
    assert (issuer["@type"], values(issuer, SCHEMA + "url")) == ([OBI + "Issuer"], [one.request.issuer.url])
    (criteria,) = the_badge[OBI + "criteria"]
    assert values(criteria, OBI + "narrative") == ["Course Completion Certificate"]
    (evidence,) = expanded[OBI + "evidence"]
    assert evidence["@type"] == [OBI + "Evidence", OBI + "Extension", EXTENSIONS + "TrainingEvidence"]
    (signatory,) = expanded[EXTENSIONS + "signatory"]
    assert signatory["@type"] == [OBI + "Extension", EXTENSIONS + "SignatoryExtension"]
    assert values(signatory, SCHEMA + "jobTitle") == ["Director"]
    assert values(signatory, SCHEMA + "image") == ["https://obj.dev.example.org/sig/dir.png"]
    assert values(expanded, EXTENSIONS + "printUri") == ["data:image/svg+xml,x"]
    assert values(expanded, SCHEMA + "validFrom") == ["2024-01-01T00:00:00Z"]
    assert values(expanded, OBI + "revoked") == [False]
    assert SECURITY + "expiration" in expanded
    (verification,) = expanded[OBI + "verify"]
    assert verification["@type"] == [OBI + ("SignedBadge" if members else "HostedBadge")]
    if members:
        (signed,) = expanded[SECURITY + "signature"]
        assert signed["@type"] == [SECURITY + "LinkedDataSignature2015"]
        assert values(signed, SECURITY + "signatureValue") == ["c2ln"]
        creator = [f"{BASE}/keys/12_publicKey.json"]
        assert values(signed, "http://purl.org/dc/terms/creator") == creator
        assert values(verification, "http://purl.org/dc/terms/creator") == creator
        assert values(issuer, SECURITY + "publicKey") == [
            "https://x/keys/12_publicKey.json",
            f"{BASE}/keys/7_publicKey.json",
        ]


def test_each_context_is_a_document_of_terms():
    assert [set(context(path)) for path in PATHS] == [{"@context"}] * len(PATHS)
    with pytest.raises(KeyError):
        context("v1/other.json")


# --- the registry


def test_the_request_to_the_registry():
    """§9 case 9"""
    one = certificate()
    document = stored_document(badge(one), "data:,x")
    sent = registry_request(one, document, "B2U4Z5")
    assert sent == {
        "id": ID,
        "jsonUrl": f"{BASE}/{BATCH}/{ID}.json",
        "jsonData": document,
        "accessCode": "B2U4Z5",
        "recipientName": "Meera Nair",
        "recipientId": LEARNER,
        "related": {"batchId": BATCH, "courseId": COURSE, "type": "Course Completion Certificate"},
    }
    assert registry_request(certificate(oldId="old"), document, "B2U4Z5") == sent | {"oldId": "old"}
