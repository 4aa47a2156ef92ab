"""Files from their source to the own store: downloaded to disk, checked, uploaded, removed. Nothing is kept in memory.

spec: content-auto-creator §3.6, §3.7, auto-creator-v2 §3.4
"""

from __future__ import annotations

import mimetypes
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar
from urllib.parse import urlsplit

from transforms.import_failures import FAILURES, ImportFailed
from transforms.services import Downloads, Drive, DriveBusy, DriveFile, FileObjects, FileTooLarge
from transforms.slugs import NoSlug, slug

__all__ = ["BackOff", "Sources", "drive_file_id", "is_on_drive", "last_part", "shown", "slug_of", "stored"]

T = TypeVar("T")

IMAGE = "image"
DRIVE = "drive.google.com"
DRIVE_FILE_ID = "download&id="
# what Drive calls the types of contents that it knows by another name
DRIVE_TYPES = {
    "application/vnd.ekstep.h5p-archive": ("application/x-zip", "application/zip"),
    "application/epub": ("application/epub+zip",),
    "audio/mp3": ("audio/mpeg",),
    "application/vnd.ekstep.html-archive": ("application/x-zip-compressed",),
}


@dataclass(frozen=True)
class BackOff:
    """How long Drive is waited for: the first pause, what each is multiplied by, the longest, and all together.

    Times in seconds. spec: content-auto-creator §8.6
    """

    first: float
    factor: float
    longest: float
    altogether: float


@dataclass(frozen=True)
class Sources:
    """Where files come from; ``wait`` sleeps for so many seconds."""

    web: Downloads
    drive: Drive
    back_off: BackOff
    wait: Callable[[float], None]

    def about(self, url: str, mime_type: str) -> DriveFile:
        """What Drive knows of a file of its own, which has the type that a content of ``mime_type`` needs.

        Raises ImportFailed. spec: content-auto-creator §3.6
        """
        file_id = drive_file_id(url)
        found = self._from_drive(url, lambda: self.drive.about(file_id))
        wanted = DRIVE_TYPES.get(mime_type.lower(), (mime_type.lower(),))
        if mime_type != IMAGE and found.mime_type.lower() not in wanted:
            raise ImportFailed(
                "Invalid File Url! File MimeType Is Not Same As Object MimeType for File Id : "
                f"{file_id} | File MimeType is : {found.mime_type} | Node MimeType is : {mime_type}"
            )
        return found

    def name(self, url: str, mime_type: str) -> str:
        """What a file will be called in the store. Raises ImportFailed. spec: content-auto-creator §3.6"""
        if is_on_drive(url):
            return slug_of(self.about(url, mime_type).name, url)
        return slug_of(last_part(url), url)

    def fetch(self, url: str, mime_type: str, directory: Path, limit: int) -> Path:
        """Download a file of at most ``limit`` bytes into the directory. Raises ImportFailed, FileTooLarge."""
        if is_on_drive(url):
            about = self.about(url, mime_type)
            file = directory / slug_of(about.name, url)
            if about.size is not None and about.size > limit:
                raise FileTooLarge(f"a file of {about.size} bytes")
            self._from_drive(url, lambda: self.drive.fetch(about.id, file, limit))
            return file
        file = directory / slug_of(last_part(url), url)
        _tried(url, lambda: self.web.fetch(url, file, limit))
        return file

    def _from_drive(self, url: str, call: Callable[[], T]) -> T:
        """Ask Drive, as long as it asks to come back later. spec: content-auto-creator §8.6"""
        pause, waited = self.back_off.first, 0.0
        while True:
            try:
                return call()
            except DriveBusy as error:
                if pause > self.back_off.longest or waited + pause > self.back_off.altogether:
                    raise ImportFailed(f"Invalid fileUrl received : {shown(url)} | {error}") from error
                self.wait(pause)
                waited += pause
                pause *= self.back_off.factor
            except FileTooLarge:
                raise
            except FAILURES as error:
                raise ImportFailed(f"Invalid fileUrl received : {shown(url)} | {error}") from error


def stored(objects: FileObjects, key: str, file: Path) -> str:
    """Put a file into the own store; its new address. Raises ImportFailed. spec: content-auto-creator §3.7"""
    content_type = mimetypes.guess_type(key)[0] or "application/octet-stream"
    try:
        return objects.put_file(key, file, content_type)
    except ValueError:
        raise ImportFailed("Error while uploading the File. | a name that no store can hold") from None
    except FAILURES as error:
        raise ImportFailed(f"Error while uploading the File. | {error}") from error


def is_on_drive(url: str) -> bool:
    """Whether a file is in Google Drive."""
    return DRIVE in url


def drive_file_id(url: str) -> str:
    """Drive's id of a file. Raises ImportFailed for an address without one."""
    file_id = url.partition(DRIVE_FILE_ID)[2].partition("&")[0].strip()
    if not file_id:
        raise ImportFailed(f"Invalid fileUrl received : {shown(url)} | no file id in it")
    return file_id


def last_part(url: str) -> str:
    """The last part of an address's path, as it is written. Raises ImportFailed for an address without one."""
    try:
        part = urlsplit(url).path.rpartition("/")[2]
    except ValueError:
        part = ""
    if not part.strip(". "):
        raise ImportFailed(f"Invalid fileUrl received : {shown(url)} | no file name in it")
    return part


def slug_of(name: str, url: str) -> str:
    """The slug of a file's name. Raises ImportFailed when it can be no name of a file."""
    try:
        plain = slug(name)
    except NoSlug:
        plain = ""
    if not plain.strip("."):
        raise ImportFailed(f"Invalid fileUrl received : {shown(url)} | no file name in it")
    return plain


def shown(url: str) -> str:
    """An address as messages show it: without what may open it, such as a signature or a password."""
    address, mark, _ = url.partition("?")
    scheme, slashes, rest = address.partition("//")
    host, slash, path = rest.partition("/")
    plain = f"{scheme}{slashes}{host.rpartition('@')[2]}{slash}{path}"
    # what Drive's addresses ask for is the id of a file
    return url if is_on_drive(url) and "@" not in host else plain + (mark and "?…")


def _tried(url: str, call: Callable[[], T]) -> T:
    try:
        return call()
    except FileTooLarge:
        raise
    except FAILURES as error:
        raise ImportFailed(f"Invalid fileUrl received : {shown(url)} | {error}") from error
