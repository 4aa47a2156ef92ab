"""The certificate templates of a course batch, as the LMS keeps them: maps of texts, some of which are JSON.

spec: collection-cert-pre-processor §3.1
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson

__all__ = ["BrokenTemplate", "Template", "svg_templates"]


class BrokenTemplate(ValueError):
    """A member of a template does not hold the JSON that it should; the message names the member."""


@dataclass(frozen=True)
class Template:
    """One template. ``members`` are its texts; a member that is empty or the text ``null`` counts as absent."""

    key: str
    members: Mapping[str, str | None]

    def text(self, name: str, default: str = "") -> str:
        """The text of a member."""
        value = self.members.get(name)
        return default if value is None or value in ("", "null") else value

    @property
    def identifier(self) -> str:
        return self.text("identifier", self.key)

    @property
    def name(self) -> str:
        return self.text("name")

    def json_object(self, name: str) -> dict[str, Any]:
        """The object in a member, ``{}`` when it is absent. Raises BrokenTemplate."""
        parsed = self._json(name, "{}")
        if not isinstance(parsed, dict):
            raise BrokenTemplate(f"{name} of the template is no JSON object")
        return parsed

    def json_array(self, name: str) -> list[Any]:
        """The array in a member, ``[]`` when it is absent. Raises BrokenTemplate."""
        parsed = self._json(name, "[]")
        if not isinstance(parsed, list):
            raise BrokenTemplate(f"{name} of the template is no JSON array")
        return parsed

    def _json(self, name: str, default: str) -> Any:
        try:
            return orjson.loads(self.text(name, default))
        except orjson.JSONDecodeError as error:
            raise BrokenTemplate(f"{name} of the template is not JSON") from error


def svg_templates(cert_templates: Mapping[str, Mapping[str, str | None]] | None) -> list[Template]:
    """The templates of ``course_batch.cert_templates`` whose address has ``.svg`` in it.

    spec: collection-cert-pre-processor §3.1
    """
    templates = (Template(key, members or {}) for key, members in (cert_templates or {}).items())
    return [template for template in templates if ".svg" in template.text("url")]
