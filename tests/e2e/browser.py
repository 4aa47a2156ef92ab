"""Headless Chromium: pages as pictures.

`python -m tests.e2e.browser PAGE PICTURE` makes the README's picture of the demo's page: its beginning, down to the
first certificates. What fonts there are decides how names of other scripts look.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path

from PIL import Image

NAMES = ("chromium", "chromium-browser", "google-chrome-stable", "google-chrome")
INSTALL = ("apt-get", "install", "-qq", "-y", "--no-install-recommends", "chromium", "fonts-dejavu-core")
INSTALL_SECONDS = 600
SCREENSHOT_SECONDS = 240

README_SIZE = (1280, 2594)
README_COLOURS = 256


class NoBrowser(Exception):
    """There is no Chromium, and it cannot be installed here; the message says how to get it."""


@cache
def chromium() -> str:
    """The path of Chromium. As root on Debian and its like it is installed when it is missing. Raises NoBrowser."""
    found = _found()
    if found is None and os.geteuid() == 0 and shutil.which("apt-get"):
        for command in (("apt-get", "update", "-qq"), INSTALL):
            subprocess.run(
                command,
                env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                timeout=INSTALL_SECONDS,
                check=False,
            )
        found = _found()
    if found is None:
        raise NoBrowser(f"there is none of {', '.join(NAMES)} on PATH; on Debian: apt-get install chromium")
    return found


def _found() -> str | None:
    return next((path for name in NAMES if (path := shutil.which(name))), None)


def screenshot(page: Path, picture: Path, *, width: int, height: int, scale: int = 1) -> None:
    """A PNG of the beginning of a page: ``width`` x ``height`` CSS pixels, each of ``scale`` x ``scale`` dots.

    Raises NoBrowser, subprocess.CalledProcessError, subprocess.TimeoutExpired.
    """
    with tempfile.TemporaryDirectory() as profile:
        command = [
            chromium(),
            "--headless",
            # there is no sandbox for root, and the page runs nothing
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--hide-scrollbars",
            "--no-first-run",
            f"--user-data-dir={profile}",
            f"--force-device-scale-factor={scale}",
            f"--window-size={width},{height}",
            f"--screenshot={picture.absolute()}",
            page.absolute().as_uri(),
        ]
        subprocess.run(command, capture_output=True, timeout=SCREENSHOT_SECONDS, check=True)


def main(page: Path, picture: Path) -> None:
    """Make the README's picture."""
    width, height = README_SIZE
    screenshot(page, picture, width=width, height=height)
    with Image.open(picture) as whole:
        fewer_colours = whole.convert("RGB").quantize(README_COLOURS, dither=Image.Dither.NONE)
    fewer_colours.save(picture, optimize=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
