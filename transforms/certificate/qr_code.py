"""The picture with a certificate's QR code and access code (spec: collection-certificate-generator §3.5.4)."""

from __future__ import annotations

from functools import cache
from io import BytesIO

import segno
from PIL import Image, ImageDraw, ImageFont

__all__ = ["qr_code_image"]

MODULE = 2
QUIET_ZONE = 3
# Readers take each of the eight patterns. To try all of them costs four times the CPU of the rest, and on blurred and
# noisy pictures the best one was read no oftener than a fixed one.
MASK_PATTERN = 3
# the code's lower quiet zone, which the text below makes up for
QUIET_BELOW = 3
TEXT_HEIGHT = 21
BASE_LINE = 17
FONT_SIZE = 16
LETTER_SPACING = 0.2 * FONT_SIZE
MARGIN = 1
BLACK, WHITE = 0, 255


def qr_code_image(content: str, caption: str) -> bytes:
    """A PNG, 8-bit greyscale: the QR code of ``content`` at level H, and ``caption`` under it.

    2m+14 pixels wide and 2m+32 high for m modules, wider only for a caption wider than the code.
    """
    code = _code(content)
    text = _text(caption)
    above = MODULE * QUIET_ZONE
    width = max(code.width + 2 * above, text.width) + 2 * MARGIN
    below = MARGIN + above + code.height + QUIET_BELOW
    picture = Image.new("L", (width, below + TEXT_HEIGHT + MARGIN), WHITE)
    picture.paste(code, ((width - code.width) // 2, MARGIN + above))
    picture.paste(text, ((width - text.width) // 2, below))
    written = BytesIO()
    picture.save(written, "PNG")
    return written.getvalue()


def _code(content: str) -> Image.Image:
    code = segno.make(
        content, error="h", boost_error=False, micro=False, mode="byte", encoding="utf-8", mask=MASK_PATTERN
    )
    modules = len(code.matrix)
    pixels = bytes(BLACK if module else WHITE for row in code.matrix for module in row)
    return Image.frombytes("L", (modules, modules), pixels).resize(
        (modules * MODULE, modules * MODULE), Image.Resampling.NEAREST
    )


def _text(caption: str) -> Image.Image:
    letters = [_letter(letter) for letter in caption]
    width = round(sum(letter.width for letter in letters) + LETTER_SPACING * max(len(letters) - 1, 0))
    text = Image.new("L", (width, TEXT_HEIGHT), WHITE)
    left = 0.0
    for letter in letters:
        text.paste(letter, (round(left), 0))
        left += letter.width + LETTER_SPACING
    return text


@cache
def _letter(letter: str) -> Image.Image:
    """One letter in bold, black on white without shades of grey, as wide as its ink, on the common base line."""
    font = ImageFont.load_default(FONT_SIZE)
    picture = Image.new("1", (2 * FONT_SIZE, TEXT_HEIGHT), 1)
    draw = ImageDraw.Draw(picture)
    draw.fontmode = "1"
    # struck twice: at this size a stroke around the letter closes its counters
    for shift in (0, 1):
        draw.text((FONT_SIZE // 2 + shift, BASE_LINE), letter, fill=0, font=font, anchor="ls")
    left, _, right, _ = Image.eval(picture.convert("L"), lambda shade: WHITE - shade).getbbox() or (0, 0, 1, 1)
    return picture.crop((left, 0, right, TEXT_HEIGHT)).convert("L")
