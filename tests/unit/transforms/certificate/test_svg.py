"""The picture: decoded, it is well-formed, says what it should, and runs nothing."""

from __future__ import annotations

import base64
import time
from io import BytesIO
from pathlib import Path
from urllib.parse import unquote

import orjson
import pytest
import zxingcpp
from hypothesis import given
from hypothesis import strategies as st
from lxml import etree
from PIL import Image

from tests.unit.transforms.certificate.samples import BASE, ID, certificate, edata
from transforms.certificate.badge import Certificate, badge, stored_document
from transforms.certificate.qr_code import qr_code_image
from transforms.certificate.svg import (
    VARIABLES,
    InvalidTemplate,
    SvgTemplate,
    check_template,
    encode_value,
    print_uri,
    variables,
)

PREFIX = "data:image/svg+xml,"
SVG = 'xmlns="http://www.w3.org/2000/svg"'
LINK = 'xmlns:xlink="http://www.w3.org/1999/xlink"'
PNG = qr_code_image(f"{BASE}/{ID}", "B2U4Z5")
SHIPPED = sorted((Path(__file__).parents[4] / "deploy/local/templates").glob("*.svg"))

EXAMPLE = f"""<svg {SVG} width="100%" fill="#fff">
<text font-family="'Noto Sans'">${{recipientName}}, ${{courseName}}, ${{colour:-blue}}, ${{nobody}}</text></svg>"""

LEGAL = st.characters(exclude_categories=("Cs", "Cc"), exclude_characters="\ufffe\uffff")
# pieces that break pictures, addresses and templates, between letters of all scripts
PIECES = (
    *("&", "<", ">", '"', "'", "%", "#", "~", "+", "\t", "\n", "]]>", "<!--", "&amp;", "&#0;", "%3C", "${courseName}"),
    *("$", "${", "}", "$${x}", ":-", "<script>", "</text>", "<![CDATA[", "\u202e", "\u200f", "محمد", "मीरा", "😀"),
)
NASTY = st.lists(LEGAL | st.sampled_from(PIECES), max_size=40).map("".join)
NAMES = NASTY.filter(str.strip)


def decoded(uri: str) -> str:
    assert uri.startswith(PREFIX)
    return unquote(uri.removeprefix(PREFIX), errors="strict")


def parsed(uri: str) -> etree._Element:
    return etree.fromstring(decoded(uri).encode())


def filled(template: str, **members) -> str:
    return print_uri(SvgTemplate.of(template), certificate(**members), PNG)


def texts(uri: str) -> list[str]:
    return [text.text or "" for text in parsed(uri).iter("{*}text")]


def test_the_example_of_the_spec():
    values = {"recipientName": encode_value("Asha D'Souza"), "courseName": encode_value("Maths & Science")}
    assert SvgTemplate.of(EXAMPLE).fill(values) == (
        "data:image/svg+xml,%3Csvg xmlns=%22http://www.w3.org/2000/svg%22 width=%22100%25%22 fill=%22%23fff%22%3E%0A"
        "%3Ctext font-family=%22'Noto Sans'%22%3EAsha%20D%26%2339%3BSouza, Maths%20%26amp%3B%20Science, blue, "
        "${nobody}%3C/text%3E%3C/svg%3E"
    )


def test_a_course_with_markup():
    """§9 case 11"""
    template = f"""<svg {SVG} {LINK} width="100%"
height="100%"\tfont-family="'Noto Sans', sans-serif">
<text
x="1">${{courseName}}</text><text>${{unknown}}</text><text>${{a:-b}}</text>
<image xlink:href="${{qrCodeImage}}"/></svg>"""
    uri = filled(template, courseName="Q&A <1>")
    assert texts(uri) == ["Q&A <1>", "${unknown}", "b"]
    root = parsed(uri)
    assert root.get("font-family") == "'Noto Sans', sans-serif"
    kind, _, picture = root.find("{*}image").get("{http://www.w3.org/1999/xlink}href").partition(",")
    assert kind == "data:image/png;base64"
    assert base64.b64decode(picture, validate=True) == PNG
    (read,) = zxingcpp.read_barcodes(Image.open(BytesIO(base64.b64decode(picture))))
    assert (read.text, read.ec_level) == (certificate().qr_text, "H")


def test_the_values():
    values = variables(certificate(expiry="1y", description="About numbers", logo="https://x/l.png"), PNG)
    assert {name: unquote(value) for name, value in values.items() if name != "qrCodeImage"} == {
        "recipientName": "Meera Nair",
        "recipientId": "3c1f0e7e-2b53-4f0a-8a35-1d4a8c0b9e21",
        "courseName": "Foundations of Numeracy",
        "certificateName": "Foundations of Numeracy",
        "certificateDescription": "About numbers",
        "issuedDate": "12 June 2024",
        "expiryDate": "2025-06-12T00:00:00Z",
        "issuerName": "State Council",
        "signatory0Image": "https://obj.dev.example.org/sig/dir.png",
        "signatory0Designation": "Director",
        "signatory1Image": "",
        "signatory1Designation": "",
    }
    assert set(values) == VARIABLES


def test_without_a_course():
    values = variables(certificate(courseName=""), PNG)
    assert values["courseName"] == ""
    assert unquote(values["certificateName"]) == "Course Completion Certificate"


@pytest.mark.parametrize(
    ("value", "encoded"),
    [
        ("a b", "a%20b"),
        (".-*_", ".-*_"),
        ("~", "%7E"),
        ("a/b", "a%2Fb"),
        ("é", "%C3%A9"),
        ("&<>\"'", "%26amp%3B%26lt%3B%26gt%3B%26quot%3B%26%2339%3B"),
        ("a\x00\x08\x1b\ufffeb", "ab"),
        ("", ""),
    ],
)
def test_how_a_value_is_encoded(value, encoded):
    assert encode_value(value) == encoded


@pytest.mark.parametrize(
    ("written", "result"),
    [
        ("${a}", "1"),
        ("${a}${a}", "11"),
        ("${b}", "${b}"),
        ("${b:-x y}", "x y"),
        ("${a:-x}", "1"),
        ("${b:-}", ""),
        ("${b:-x:-y}", "x:-y"),
        ("$${a}", "${a}"),
        ("$$${a}", "$${a}"),
        ("${a}$${a}${a}", "1${a}1"),
        ("$a $ {a} ${a", "$a $ {a} ${a"),
        ("${}", "${}"),
        ("${b ${a}}", "${b ${a}}"),
        ("${b ${a:-x}", "${b ${a:-x}"),
        ("${c}", "${a}"),
        ("a}${a}{", "a}1{"),
    ],
)
def test_variables_by_the_rules_of_the_substitutor(written, result):
    template = SvgTemplate.of(f"<svg>{written}</svg>")
    assert decoded(template.fill({"a": "1", "c": "${a}"})) == f"<svg>{result}</svg>"


@given(name=NAMES, course=NAMES, issuer=NAMES)
def test_whatever_the_names_the_picture_says_them(name, course, issuer):
    template = f"""<svg {SVG}><text>${{recipientName}}</text><text>${{courseName}}</text>
<text id="${{issuerName}}">${{issuerName}}</text></svg>"""
    uri = filled(
        template, data=[{"recipientName": name}], courseName=course, issuer={"name": issuer, "url": "https://x"}
    )
    assert texts(uri) == [name, course, issuer]
    assert len(list(parsed(uri).iter())) == 4
    assert set(uri) & set('<>"#\n\t\r') == set()


@given(st.text().filter(str.strip))
def test_whatever_characters_the_picture_is_well_formed(name):
    uri = filled(EXAMPLE, data=[{"recipientName": name}])
    legal = "".join(letter for letter in name if letter in "\t\n\r" or (letter >= " " and letter not in "\ufffe\uffff"))
    # a parser reads each line end as a line feed
    expected = legal.replace("\r\n", "\n").replace("\r", "\n")
    assert texts(uri) == [f"{expected}, Foundations of Numeracy, blue, ${{nobody}}"]


@pytest.mark.parametrize("name", ["x" * 300, "नाम " * 75, "\u202eمحمد" * 50])
def test_long_names(name):
    assert texts(filled(f"<svg {SVG}><text>${{recipientName}}</text></svg>", data=[{"recipientName": name}])) == [name]


@given(NASTY)
def test_the_template_is_kept(text):
    """Decoded, the picture equals its template: only variables change."""
    # no variables are left in it
    template = f"<svg {SVG}><text>{''.join(c for c in text if c not in '&<>${}')}</text></svg>"
    assert decoded(SvgTemplate.of(template).fill({})) == template


@pytest.mark.parametrize("file", SHIPPED, ids=lambda file: file.name)
def test_the_templates_of_the_demo(file):
    uri = filled(file.read_text("utf-8"), courseName="Q&A <1>", description="All of it", expiry="2y")
    text = decoded(uri)
    assert "${" not in text
    assert "Q&amp;A &lt;1&gt;" in text
    assert "Meera Nair" in text
    assert base64.b64encode(PNG).decode() in text
    parsed(uri)


def test_there_are_templates_for_the_demo():
    assert len(SHIPPED) >= 2
    written = "".join(file.read_text("utf-8") for file in SHIPPED)
    assert [name for name in VARIABLES if f"${{{name}}}" not in written] == []


# --- which templates are refused

BOMB = "".join(f'<!ENTITY a{n} "{f"&a{n - 1};" * 10}">' for n in range(1, 10))
INACTIVE = [
    EXAMPLE,
    f'<?xml version="1.0" encoding="UTF-8"?>\n<svg {SVG}/>',
    f'<!DOCTYPE svg PUBLIC "-//W3C//DTD SVG 1.1//EN" "http://www.w3.org/Graphics/SVG/1.1/DTD/svg11.dtd"><svg {SVG}/>',
    f"<svg {SVG}><style>@import url(https://fonts.example.org/a.css); text {{ fill: #333 }}</style></svg>",
    f'<svg {SVG} {LINK}><image xlink:href="${{signatory0Image}}"/><image href="https://x/a.png"/></svg>',
    f'<svg {SVG}><a href="https://x/${{recipientId}}"/><use href="#a"/></svg>',
    f"<svg {SVG}><metadata/><title>on the script: x</title><text>onload=</text></svg>",
    f"<!-- <script> --><svg {SVG}><![CDATA[<script>]]></svg>",
    f'<svg {SVG}><g fill="${{colour:-red}}" style="fill:${{c:-#fff}}"/></svg>',
    "<!DOCTYPE svg []><svg/>",
    "\ufeff<svg/>",
]
ACTIVE = {
    "is larger than 2000000 bytes": [f"<svg {SVG}>{'é' * 1_000_000}</svg>", "x" * 2_000_001],
    "is not well-formed XML": [
        "",
        "no XML",
        "<svg>",
        "<svg a='1' a='2'/>",
        "<svg>&nbsp;</svg>",
        "<svg>\x00</svg>",
        "<svg>\ud800</svg>",
        "<svg ${b}/>",
        "<svg a='${b:-'}'/>",
        "<svg>" + "<g>" * 10_000 + "</g>" * 10_000 + "</svg>",
    ],
    "is not an SVG picture": ["<html/>", f"<g {SVG}/>"],
    "declares entities, elements or attributes": [
        '<!DOCTYPE svg [<!ENTITY x SYSTEM "file:///etc/passwd">]><svg>&x;</svg>',
        '<!DOCTYPE svg [<!ENTITY % x SYSTEM "http://127.0.0.1:9/x.dtd"> %x;]><svg/>',
        f'<!DOCTYPE svg [<!ENTITY a0 "ha">{BOMB}]><svg>&a9;</svg>',
        f'<!DOCTYPE svg [<!ENTITY a0 "ha">{BOMB}]><svg a="&a9;"/>',
        '<!DOCTYPE svg [<!ATTLIST svg onload CDATA "alert(1)">]><svg/>',
        '<!DOCTYPE svg SYSTEM ">" [<!ATTLIST svg onload CDATA "alert(1)">]><svg/>',
        '<!DOCTYPE svg [<!ENTI${x:-TY} a "b">]><svg/>',
    ],
    "refers to an entity": ['<!DOCTYPE svg SYSTEM "file:///x.dtd"><svg>&x;</svg>'],
    "has an element script": [
        f"<svg {SVG}><script>alert(1)</script></svg>",
        f"<svg {SVG} xmlns:h='http://www.w3.org/1999/xhtml'><h:SCRIPT src='https://x'/></svg>",
        f"<svg {SVG}>${{x:-<script/>}}</svg>",
    ],
    "has an element iframe": [f"<svg {SVG}><foreignObject><iframe srcdoc='x'/></foreignObject></svg>"],
    "has an event handler": [f'<svg {SVG} onload="alert(1)"/>', f"<svg {SVG}><g onClick=''/></svg>"],
    "has an address that runs a script": [
        f'<svg {SVG}><a href="javascript:alert(1)"/></svg>',
        f'<svg {SVG} {LINK}><a xlink:href=" JavaScript&#58;alert(1)"/></svg>',
        f'<svg {SVG}><a href="java&#10;script:alert(1)"/></svg>',
        f'<svg {SVG}><a href="java${{x:-script}}:alert(1)"/></svg>',
        f'<svg {SVG}><a href="java${{signatory1Image}}script:alert(1)"/></svg>',
        f'<svg {SVG}><a><animate attributeName="href" values="#;javascript:alert(1)"/></a></svg>',
        f'<svg {SVG}><a href="data:text/html,x"/></svg>',
    ],
    "has a link whose address begins with a variable": [f'<svg {SVG}><a href=" ${{recipientName}}"/></svg>'],
    "uses another document's parts": [f'<svg {SVG}><use href="data:image/svg+xml,x"/></svg>'],
    "has a style sheet of its own": [f'<?xml-stylesheet type="text/xsl" href="https://x/a.xsl"?><svg {SVG}/>'],
}


@pytest.mark.parametrize("text", INACTIVE)
def test_templates_that_are_used(text):
    check_template(text)


@pytest.mark.parametrize(
    ("reason", "text"), [(reason, text) for reason, texts in ACTIVE.items() for text in texts], ids=str
)
def test_templates_that_are_not_used(reason, text):
    with pytest.raises(InvalidTemplate) as raised:
        SvgTemplate.of(text)
    assert str(raised.value) == f"the template {reason}"


def test_the_limit_can_be_set():
    with pytest.raises(InvalidTemplate):
        SvgTemplate.of(EXAMPLE, most_bytes=100)


def test_a_template_of_openings_only_takes_no_time():
    begun = time.process_time()
    assert decoded(SvgTemplate.of(f"<svg>{'${' * 300_000}</svg>").fill({})).endswith("${</svg>")
    assert time.process_time() - begun < 5


def test_a_certificate_is_cheap():
    """Picture, QR code and document together stay far under 10 ms of CPU."""
    template = SvgTemplate.of(SHIPPED[0].read_text("utf-8"))
    made: list[Certificate] = [certificate(data=[{"recipientName": f"learner-{n}"}]) for n in range(50)]
    begun = time.process_time()
    for one in made:
        picture = print_uri(template, one, qr_code_image(one.qr_text, "B2U4Z5"))
        orjson.dumps(stored_document(badge(one), picture))
    assert (time.process_time() - begun) / len(made) < 0.01
    assert edata()["name"] in str(badge(made[0]))
