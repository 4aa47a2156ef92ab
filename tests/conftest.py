"""The local stack for tests: real servers, started when the first test asks for them, one stack for the whole session.

It stands in a directory and on ports of its own, so it never meets a stack that runs already. With
SUNBIRD_TEST_STACK=DIRECTORY the tests use the stack of that directory instead (`sunbird-pipelines stack up`), which
saves its start; it is left as it was found, but for what came up in it for several processes.
"""

import os
import socket
from collections.abc import Callable, Generator, Iterator

import pytest
from hypothesis import settings

from deploy.local.stack import Stack

REUSED = "SUNBIRD_TEST_STACK"

StackOf = Callable[..., Stack]

# The same examples every time: what passed passes again. New ones: `make explore`
settings.register_profile("repeatable", derandomize=True)
settings.load_profile("repeatable")


@pytest.hookimpl(tryfirst=True)  # xdist looks for groups when its turn comes
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests that need the stack: `-m "not stack"` leaves them out.

    Where tests run in several processes, each has a stack of its own, and one process runs all of a module's tests
    that need it: they share what the module has on it, such as jobs that were submitted.
    """
    for item in items:
        if "stack_of" in getattr(item, "fixturenames", ()):
            item.add_marker("stack")
        if item.get_closest_marker("stack"):
            item.add_marker(pytest.mark.xdist_group(item.path.stem))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A report goes from one process to another as UTF-8; what a test logged on purpose may be no text."""
    report = yield
    report.sections = [(title, text.encode("utf-8", "backslashreplace").decode()) for title, text in report.sections]
    return report


@pytest.fixture
def nobody() -> Iterator[int]:
    """A port that nobody listens on, and that nobody else gets meanwhile."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield taken.getsockname()[1]


@pytest.fixture(scope="session")
def stack_of(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StackOf]:
    """Call it with names of services: the session's stack, with at least these up (all of them without names).

    What a test stopped meanwhile is started again. Raises StackError when a service does not come up.
    """
    reused = os.environ.get(REUSED)
    stack = Stack(reused or tmp_path_factory.mktemp("stack"), ports="free")
    found_up = {status.service for status in stack.status() if status.pids}
    asked_for: set[str] = set()

    def with_services(*services: str) -> Stack:
        stack.up(services)
        asked_for.update(services or (status.service for status in stack.status() if status.pids))
        return stack

    yield with_services
    ours = asked_for - found_up
    others_may_use_it = reused and "PYTEST_XDIST_WORKER" in os.environ
    if ours and not others_may_use_it:
        stack.down(ours)


@pytest.fixture(scope="session")
def stack(stack_of: StackOf) -> Stack:
    """The session's stack with Kafka, Cassandra, Redis and the stand-ins of the HTTP services; no Flink."""
    return stack_of("kafka", "cassandra", "redis", "stubs")


@pytest.fixture(scope="session")
def flink_stack(stack_of: StackOf) -> Stack:
    """The session's stack with Flink and the pool of Python workers too."""
    return stack_of("kafka", "cassandra", "redis", "stubs", "flink")
