"""An installation with both jobs on Flink, submitted once for all tests of a module."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from deploy.local.stack import Stack
from tests.e2e.installation import PROGRESS, RELATIONS, Installation, RunningJob


@pytest.fixture(scope="module")
def site(flink_stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """An installation without jobs."""
    with Installation.on(flink_stack, tmp_path_factory.mktemp("site")) as site:
        yield site


@pytest.fixture(scope="module")
def jobs(site: Installation) -> Iterator[dict[str, RunningJob]]:
    """Both jobs, running."""
    with site.submitted(RELATIONS) as relations, site.submitted(PROGRESS) as progress:
        yield {RELATIONS: relations(), PROGRESS: progress()}
