"""Templates that many threads want at once (spec: collection-certificate-generator §3.5.5)."""

from __future__ import annotations

import sys
import threading
import traceback

import pytest

from transforms.issuers import SvgTemplates
from transforms.stores import StoreUnavailable

URL = "http://127.0.0.1/blue.svg"
SVG = '<svg xmlns="http://www.w3.org/2000/svg"/>'


class Templates:
    """A server that does not answer before all others wait, too, and then as it is told."""

    def __init__(self, answers: list[str | Exception]) -> None:
        self.fetched: list[str] = []
        self.others_wait: list[threading.Thread] = []
        self._answers = answers

    def fetch(self, url: str) -> str:
        self.fetched.append(url)
        for other in self.others_wait:
            while not _waits(other):
                pass
        answer = self._answers[len(self.fetched) - 1]
        if isinstance(answer, Exception):
            raise answer
        return answer


def _waits(thread: threading.Thread) -> bool:
    frame = sys._current_frames().get(thread.ident or 0)
    return frame is not None and traceback.extract_stack(frame)[-1].name == "wait"


@pytest.mark.parametrize("answer", [StoreUnavailable("127.0.0.1 does not answer"), SVG])
def test_those_who_wait_for_a_template_do_not_ask_for_it_one_after_the_other(answer: str | Exception):
    """Each would wait for the time-outs of its own tries: 64 of them for three hours."""
    server = Templates([answer] * 4)
    templates = SvgTemplates(server)
    outcomes: list[object] = []

    def want() -> None:
        try:
            outcomes.append(type(templates.of(URL)))
        except StoreUnavailable as error:
            outcomes.append(error)

    first, *others = (threading.Thread(target=want) for _ in range(4))
    server.others_wait = others
    first.start()
    for other in others:
        other.start()
    for thread in (first, *others):
        thread.join()
    assert server.fetched == [URL]
    assert len(outcomes) == 4
    assert len(set(map(id, outcomes))) == 1


def test_a_template_that_could_not_be_had_is_asked_for_again():
    server = Templates([StoreUnavailable("127.0.0.1 does not answer"), SVG])
    templates = SvgTemplates(server)
    with pytest.raises(StoreUnavailable):
        templates.of(URL)
    assert templates.of(URL) is templates.of(URL)
    assert server.fetched == [URL, URL]
