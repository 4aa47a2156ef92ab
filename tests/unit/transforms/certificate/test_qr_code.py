"""The picture with the QR code: read back by an independent reader."""

from __future__ import annotations

from io import BytesIO
from itertools import product

import pytest
import segno
import zxingcpp
from PIL import Image

from transforms.certificate.access_code import DIGITS, LETTERS
from transforms.certificate.qr_code import qr_code_image

ID = "7c0d2a55-0b7e-4a43-93a4-2f5f6a7b8c90"
WIDEST = "W8W8W8"


def picture(content: str, caption: str = "B2U4Z5") -> Image.Image:
    return Image.open(BytesIO(qr_code_image(content, caption)))


@pytest.mark.parametrize(
    ("base", "length", "size"),
    [
        ("https://a.example/xx/", 57, (96, 114)),
        ("https://example.org/b/", 58, (96, 114)),
        ("https://dev.example.org/certs/", 66, (112, 130)),
        ("https://example.org/" + "a" * 200 + "/", 257, (184, 202)),
    ],
)
def test_size_content_and_level(base, length, size):
    """§9 case 11"""
    content = base + ID
    assert len(content) == length
    drawn = picture(content)
    assert drawn.format == "PNG"
    assert drawn.mode == "L"
    assert drawn.size == size
    (read,) = zxingcpp.read_barcodes(drawn)
    assert read.text == content
    assert read.ec_level == "H"
    assert read.format == zxingcpp.BarcodeFormat.QRCode
    assert read.content_type == zxingcpp.ContentType.Text


def test_the_code_stands_where_it_should():
    content = "https://example.org/b/" + ID
    pixels = picture(content).load()
    modules = [list(row) for row in segno.make(content, error="h", boost_error=False, mode="byte", mask=3).matrix]
    # a margin of 1 pixel and a quiet zone of 3 modules of 2 pixels
    first = 1 + 3 * 2
    drawn = [[pixels[first + 2 * x, first + 2 * y] == 0 for x in range(41)] for y in range(41)]
    assert drawn == [[module == 1 for module in row] for row in modules]


def test_black_and_white_only_with_a_margin():
    drawn = picture("https://dev.example.org/certs/" + ID, WIDEST)
    assert {shade for _, shade in drawn.getcolors()} == {0, 255}
    inside = Image.new("L", drawn.size, 255)
    inside.paste(drawn.crop((1, 1, drawn.width - 1, drawn.height - 1)), (1, 1))
    assert list(inside.get_flattened_data()) == list(drawn.get_flattened_data())


def caption_of(drawn: Image.Image) -> Image.Image:
    return drawn.crop((0, drawn.height - 22, drawn.width, drawn.height))


def test_the_access_code_is_there_and_centred():
    content = "https://dev.example.org/certs/" + ID
    drawn = [caption_of(picture(content, code)) for code in ("B2U4Z5", "B2U4Z6", "A1A1A1", WIDEST)]
    assert len({caption.tobytes() for caption in drawn}) == 4
    for caption in drawn:
        left, top, right, bottom = caption.point(lambda shade: 255 - shade).getbbox()
        assert abs(left - (caption.width - right)) <= 1
        assert bottom - top in range(11, 17)
    # what is above belongs to the code alone
    above = [picture(content, code).crop((0, 0, 112, 130 - 22)).tobytes() for code in ("B2U4Z5", WIDEST)]
    assert above[0] == above[1]


def test_every_letter_looks_different():
    content = "https://example.org/b/" + ID
    letters = LETTERS + DIGITS
    assert len({caption_of(picture(content, letter * 6)).tobytes() for letter in letters}) == len(letters)


def test_no_access_code_is_wider_than_the_smallest_code():
    assert all(
        picture("https://example.org/b/" + ID, (letter + digit) * 3).width == 96
        for letter, digit in product(LETTERS, DIGITS)
    )


def test_a_text_wider_than_the_code():
    content = "https://example.org/b/" + ID
    drawn = picture(content, "W8W8W8W8W8")
    assert drawn.width > 96
    (read,) = zxingcpp.read_barcodes(drawn)
    assert read.text == content
    corners = (read.position.top_left.x, read.position.top_right.x)
    assert abs(sum(corners) / 2 - drawn.width / 2) <= 1


def test_content_that_is_not_ascii():
    content = "https://शिक्षा.example/certs/" + ID
    (read,) = zxingcpp.read_barcodes(picture(content))
    assert read.text == content
