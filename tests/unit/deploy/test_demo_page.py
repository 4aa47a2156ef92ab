"""The demo's page: what it shows of a made-up end, that names stay text, and that it needs nothing from outside."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from lxml import html

from deploy.local import demo_page
from deploy.local.demo_certificates import LEARNERS
from deploy.local.demo_page import page
from tests.unit.deploy.outcome import made_up


@pytest.fixture(scope="module")
def shown() -> html.HtmlElement:
    return html.document_fromstring(page(made_up()))


def text(element: html.HtmlElement) -> str:
    return " ".join(element.text_content().split())


def row(shown: html.HtmlElement, number: int) -> list[str]:
    return [text(cell) for cell in shown.xpath("//table[@class='learners']/tbody/tr")[number - 1]]


def test_it_says_how_many_and_how_long(shown: html.HtmlElement) -> None:
    assert text(shown.find(".//h1")) == "20 learners, 20 certificates, 3.3 seconds"
    assert "14 of 20 learners completed the course" in text(shown.find(".//header"))
    assert "2.0 s to the last completed course" in text(shown.find(".//header"))
    assert "Everything is as it should be" in text(shown)


def test_every_learner_has_a_line_with_progress_and_certificates_or_the_reason(shown: html.HtmlElement) -> None:
    assert row(shown, 1)[2:] == ["10/10", "completed", "✓ issued", "✓ issued", "✓ issued"]
    assert row(shown, 3)[4:] == ["✓ issued", "Score 45 %, needs 60 %", "Other organisation"]
    assert row(shown, 6)[4:] == ["The account is blocked"]
    assert row(shown, 7)[2:] == ["9/10", "in progress", "Has completed 9 of 10 required contents"]
    assert row(shown, 8)[4] == "Has it since June 2024"
    assert row(shown, 14)[4:] == ["The enrolment is not active"]
    assert len(shown.xpath("//table[@class='learners']/tbody/tr")) == 20


def test_names_with_markup_are_text(shown: html.HtmlElement) -> None:
    names = [text(name) for name in shown.xpath("//table[@class='learners']//th[@scope='row']/b")]

    assert names == [learner.name for learner in LEARNERS]
    assert row(shown, 5)[0] == 'Learner <b>Five</b> & "Co" learner-5'
    assert not shown.xpath("//b/b")
    assert not shown.xpath("//script | //i[text()]")


def test_certificates_are_pictures_with_a_text_for_who_does_not_see_them(shown: html.HtmlElement) -> None:
    wanted = {
        certificate.identifier: certificate.picture
        for certificates in made_up().certificates.issued.values()
        for certificate in certificates
        if certificate.document
    }
    found = {figure.get("id"): figure.find(".//img") for figure in shown.iter("figure")}

    assert {name.removeprefix("certificate-"): image.get("src") for name, image in found.items()} == wanted
    assert all(re.fullmatch(r".+ of .+, access code B2U4Z5", image.get("alt")) for image in found.values())
    assert {link.get("href").removeprefix("#") for link in shown.iter("a")} == set(found)


def test_it_takes_nothing_from_outside_and_runs_nothing(shown: html.HtmlElement) -> None:
    policy = shown.xpath("string(//meta[@http-equiv='Content-Security-Policy']/@content)")
    addresses = shown.xpath("//@src | //@href | //@srcset | //@action | //@data | //@poster")

    assert "default-src 'none'" in policy
    assert "script-src" not in policy
    assert all(address.startswith(("#", "data:image/svg+xml,")) for address in addresses)
    assert "url(" not in page(made_up())
    assert "@import" not in page(made_up())
    assert not shown.xpath("//link | //iframe | //object | //@*[starts-with(name(), 'on')]")


def test_tables_and_headings_are_real_ones(shown: html.HtmlElement) -> None:
    assert [heading.tag for heading in shown.xpath("//h1 | //h2")] == ["h1", *["h2"] * 5]
    assert all(cell.get("scope") == "col" for cell in shown.xpath("//thead//th"))
    assert all(table.find("caption") is not None for table in shown.iter("table"))
    assert shown.get("lang") == "en"


def test_dead_letters_are_text(shown: html.HtmlElement) -> None:
    letters = [[text(cell) for cell in line] for line in shown.xpath("//table[@class='letters']/tbody/tr")]

    assert ["activity-aggregate-updater", "not JSON: <i>", "<script>alert(1)</script>"] in letters
    assert len(letters) == 4


def test_what_is_wrong_is_said() -> None:
    shown = html.document_fromstring(page(made_up(problems=["learner-1: <missing>"])))

    assert [text(problem) for problem in shown.xpath("//ul[@class='problems']/li")] == ["learner-1: <missing>"]
    assert "Everything is as it should be" not in text(shown)


def test_a_certificate_that_is_missing_or_should_not_be_there_is_seen() -> None:
    outcome = made_up()
    first, second, third, *_ = outcome.stored
    issued = dict(outcome.certificates.issued)
    merit = issued[first].pop(1)
    issued[second] = [*issued[second], merit]
    issued[third] = []
    shown = html.document_fromstring(page(replace(outcome, certificates=replace(outcome.certificates, issued=issued))))

    assert row(shown, 1)[5] == "It should be there"
    assert row(shown, 2)[5] == "✓ issued No score, needs 60 %"
    assert row(shown, 3)[4] == "It should be there"
    assert len(shown.xpath("//*[contains(@class, 'wrong')]")) >= 3


def test_a_run_without_any_certificate_has_a_page_too() -> None:
    outcome = made_up()
    none = replace(outcome.certificates, issued={enrolment: [] for enrolment in outcome.stored})
    shown = html.document_fromstring(page(replace(outcome, certificates=none)))

    assert text(shown.find(".//h1")) == "20 learners, 0 certificates"
    assert not list(shown.iter("img"))


def test_of_very_many_certificates_the_first_are_shown() -> None:
    shown = html.document_fromstring(page(made_up(learners=200)))

    assert len(list(shown.iter("img"))) == demo_page.MOST_CERTIFICATES
    assert re.search(r"The first 60; \d+ more were issued", text(shown))


def test_what_is_no_picture_of_ours_is_not_shown_as_one() -> None:
    outcome = made_up()
    for certificates in outcome.certificates.issued.values():
        for certificate in certificates:
            if certificate.document:
                certificate.document = {**certificate.document, "printUri": "https://example.org/a.svg"}

    assert "example.org/a.svg" not in page(outcome)
