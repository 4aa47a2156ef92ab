"""`sunbird-pipelines demo` on a stack that is up: it says that all is right, leaves the stack as it was, and writes a
page that a browser shows, certificates and all."""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import zxingcpp
from lxml import html
from PIL import Image

from deploy.local.demo_certificates import LEARNERS
from deploy.local.stack import Stack
from io_connectors.flink import Flink
from tests.e2e.browser import screenshot

# a QR code is 41 CSS pixels wide where three certificates are side by side
SCALE = 3
WIDTH, HEIGHT = 1280, 5400
NARROW = 390


@dataclass(frozen=True)
class Demo:
    """A run of the demo: what it printed, and the page that it wrote."""

    code: int
    output: str
    page: Path
    up_before: set[str]

    @property
    def learners(self) -> dict[int, str]:
        """The line of each learner."""
        lines = (re.match(r" *learner-(\d+) .*", line) for line in self.output.splitlines())
        return {int(line[1]): line[0] for line in lines if line}

    @property
    def document(self) -> html.HtmlElement:
        return html.document_fromstring(self.page.read_text())

    @property
    def certificates(self) -> set[str]:
        """The ids of the certificates on the page."""
        return {figure.get("id").removeprefix("certificate-") for figure in self.document.iter("figure")}


def up(stack: Stack) -> set[str]:
    """The services that are up."""
    return {status.service for status in stack.status() if status.up}


@pytest.fixture(scope="module")
def demo(flink_stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Demo:
    """A run with the certificates of 20 learners."""
    page = tmp_path_factory.mktemp("demo") / "page" / "demo.html"
    command = [sys.executable, "-m", "pipelines.command_line", "demo", "--dir", str(flink_stack.directory)]
    command += ["--seed", "1", "--page", str(page), "--free-ports"]
    up_before = up(flink_stack)
    done = subprocess.run(command, capture_output=True, text=True, timeout=800, check=False)
    return Demo(done.returncode, done.stdout + done.stderr, page, up_before)


@pytest.fixture
def allow_large_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)


@pytest.mark.timeout(900)
def test_the_demo_shows_twenty_learners_and_finds_everything_as_it_should_be(demo: Demo, flink_stack: Stack) -> None:
    assert demo.code == 0, demo.output
    assert len(demo.learners) == 20
    assert sum("10/10" in line and "completed" in line for line in demo.learners.values()) == 14
    assert sum(line.count("issued") for line in demo.learners.values()) == 20
    assert re.search(r"total-events-count +1 +batch-success-event-count +24", demo.output)
    assert re.search(r"total-events-count +\d\d\d +total-events-count +2\b", demo.output)
    assert re.search(r"total-events-count +4 +total-events-count +50", demo.output)
    assert re.search(r"total-events-count +21", demo.output)
    assert "an empty value" in demo.output
    assert "no leaf nodes in the relation cache" in demo.output
    assert "Mandatory parameter edata.svgTemplate is missing." in demo.output
    assert "content-auto-creator, legacy-certificate-migrator, metrics-data-transformer" in demo.output
    assert "Everything is as it should be." in demo.output

    assert not Flink(flink_stack.environment()["flink.master"]).living()
    assert up(flink_stack) == demo.up_before


@pytest.mark.timeout(900)
def test_the_demo_says_why_a_learner_has_no_certificate(demo: Demo) -> None:
    assert "score 45 %" in demo.learners[3]
    assert "not finished" in demo.learners[4]
    assert "account blocked" in demo.learners[6]
    assert "has it already" in demo.learners[8]
    assert "not begun" in demo.learners[13]
    assert "enrolment inactive" in demo.learners[14]
    assert "account merged" in demo.learners[19]


@pytest.mark.timeout(900)
def test_what_got_lost_is_counted_again_and_an_old_account_is_merged(demo: Demo) -> None:
    assert re.search(r"half lost, then synced +10/10 +completed", demo.learners[17])
    assert re.search(r"rest, merged, synced +10/10 +completed", demo.learners[20])
    assert demo.learners[20].count("issued") == 2, "with the score of the old account"


@pytest.mark.timeout(900)
def test_a_learner_is_told_an_account_deleted_an_owner_replaced(demo: Demo) -> None:
    texts = [row.text_content() for row in demo.document.xpath("//table[contains(@class, 'people')]/tbody/tr")]
    told, deleted, handed_over = texts
    assert "tell learner-1-" in told
    assert "Your certificate is ready: Dear" in told
    assert "nothing personal is left" in deleted
    assert re.search(r"owner heir-(\S+), mentors learner-1-\1, heir-\1; in the index heir-\1", handed_over)


@pytest.mark.timeout(900)
def test_the_page_names_every_learner_and_every_certificate(demo: Demo) -> None:
    names = [name.text_content() for name in demo.document.xpath("//table[@class='learners']//th[@scope='row']/b")]

    assert names == [learner.name for learner in LEARNERS]
    assert len(demo.certificates) == 20


@pytest.mark.timeout(900)
@pytest.mark.usefixtures("allow_large_pictures")
def test_a_browser_shows_the_certificates_and_their_codes_can_be_read(demo: Demo, tmp_path: Path) -> None:
    screenshot(demo.page, tmp_path / "page.png", width=WIDTH, height=HEIGHT, scale=SCALE)

    with Image.open(tmp_path / "page.png") as picture:
        codes = zxingcpp.read_barcodes(picture.convert("L"), formats=zxingcpp.BarcodeFormat.QRCode)
    assert {code.text.rpartition("/certs/")[2] for code in codes} == demo.certificates


@pytest.mark.timeout(900)
def test_the_page_fits_a_narrow_screen(demo: Demo, tmp_path: Path) -> None:
    """Nothing is wider than the screen: the margin on the right is as empty as that on the left."""
    screenshot(demo.page, tmp_path / "page.png", width=NARROW, height=8_000)

    with Image.open(tmp_path / "page.png") as picture:
        assert picture.width == NARROW
        below_the_header = picture.convert("RGB").crop((0, 1_000, NARROW, 6_000))
    assert _colours(below_the_header, NARROW - 6) == _colours(below_the_header, 6)


def _colours(picture: Image.Image, column: int) -> set[Any]:
    strip = picture.crop((column, 0, column + 1, picture.height))
    return {colour for _, colour in strip.getcolors() or ()}


def test_a_wrong_option_is_wrong_usage() -> None:
    command = [sys.executable, "-m", "pipelines.command_line", "demo", "--no-such-option"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)

    assert done.returncode == 2
    assert "no-such-option" in done.stderr
