"""`sunbird-pipelines demo`: the learner's journey on the local stack.

A course is published, learners enrol and learn, and the two jobs, on Flink, keep their progress. Everything is real:
the servers, the jobs, the topics. The end is checked against what the scenario implies.
"""

from __future__ import annotations

import contextlib
import signal
import time
import webbrowser
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Annotated, Any

import redis
import requests
import typer
import yaml
from cassandra import DriverException
from cassandra.cluster import NoHostAvailable
from confluent_kafka import KafkaException
from rich.console import Console

from deploy.local import demo_report, flink_jobs
from deploy.local.end_state import Stored, differences
from deploy.local.errors import StackError
from deploy.local.errors import UsageError as StackUsageError
from deploy.local.jar import job_server_jar
from deploy.local.progress import Progress, shown
from deploy.local.scenario import Course, Enrolment, Expected, Scenario, expected, journeys
from deploy.local.stack import DEFAULT_SLOTS, Stack
from deploy.local.stage import ACTIVITY, RELATION, Heard, Stage, wait_until

SERVICES = ("kafka", "cassandra", "redis", "flink", "stubs")

CACHE_SECONDS = 90
END_STATE_SECONDS = 180
# how often a line may change where each change is a line of its own
PLAIN_SECONDS = 3.0

INTERRUPTED = 130

# what a server that does not come up, or goes away, raises
_AWAY = (StackError, DriverException, NoHostAvailable, KafkaException, redis.RedisError, requests.RequestException)

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)


@app.command()
def demo(
    keep: Annotated[bool, typer.Option("--keep", help="Leave the stack and the jobs up.")] = False,
    open_page: Annotated[bool, typer.Option("--open", help="Open Flink's page in the browser.")] = False,
    directory: Annotated[Path, typer.Option("--dir", help="The stack's data and logs.")] = Path(".stack"),
    free_ports: Annotated[bool, typer.Option("--free-ports", help="Take any ports that are free.")] = False,
    environment: Annotated[str, typer.Option("--env", help="Prefix of topics and keyspaces.")] = "dev",
    learners: Annotated[int, typer.Option(min=1, max=10_000, help="How many learners enrol.")] = 20,
    seed: Annotated[int | None, typer.Option(help="Repeat a run: what is left to chance is the same again.")] = None,
) -> int:
    """A learner's journey on the local stack, from a published course to a certificate request.

    Starts what is needed, submits both jobs to Flink, publishes a course, lets learners learn, and checks the end
    state. Exit code 0 only when all of it is right. What the demo started, it stops.
    """
    console = Console(width=None if Console().is_terminal else 150, highlight=False)
    stack_options: dict[str, Any] = {"env": environment, "slots": DEFAULT_SLOTS}
    if free_ports:
        stack_options["ports"] = "free"
    with _stopped_by_signals():
        return Demo(console, directory, stack_options, keep=keep, open_page=open_page).run(learners, seed)


def main(arguments: Sequence[str]) -> int:
    """Run the demo with the arguments of its command line; its exit code."""
    command = typer.main.get_command(app)
    code = command.main(args=list(arguments), prog_name="sunbird-pipelines demo", standalone_mode=False)
    return int(code or 0)


@contextlib.contextmanager
def _stopped_by_signals() -> Iterator[None]:
    """Let a termination end the demo as Ctrl-C does, so that it cleans up."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    earlier = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, earlier)


@contextlib.contextmanager
def _interrupts_ignored() -> Iterator[None]:
    earlier = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, earlier)


@dataclass
class Result:
    """The end of a run: what was found, and what is wrong with it."""

    stored: dict[Enrolment, Stored]
    counted: Mapping[str, Mapping[str, int]]
    problems: list[str]
    seconds: float | None


class Steps:
    """Tells what is being done, and at the end of each step how long it took."""

    def __init__(self, progress: Progress, live: bool) -> None:
        self._progress = progress
        self._live = live
        self.seconds: dict[str, float] = {}

    @contextlib.contextmanager
    def step(self, name: str, message: str) -> Iterator[Callable[[str], None]]:
        """A step; the function given says how it stands. The last that was said stays."""
        begun = told = time.monotonic()
        last = message
        self._progress(name, message)

        def say(now: str) -> None:
            nonlocal last, told
            if now != last and (self._live or time.monotonic() - told >= PLAIN_SECONDS):
                self._progress(name, now)
                told = time.monotonic()
            last = now

        yield say
        self.seconds[name] = time.monotonic() - begun
        self._progress(name, last if self._live else f"{last} ({self.seconds[name]:.1f} s)", done=True)


class Demo:
    """One run of the demo."""

    def __init__(
        self, console: Console, directory: Path, stack_options: Mapping[str, Any], *, keep: bool, open_page: bool
    ) -> None:
        self._console = console
        self._directory = directory
        self._stack_options = stack_options
        self._keep = keep
        self._open_page = open_page
        self._started: list[str] = []
        self._submitted = False

    def run(self, learners: int, seed: int | None) -> int:
        """Do all of it: 0 when the end state is right, 1 when not or when something did not come up, 2 wrong usage."""
        begun = time.monotonic()
        try:
            right = self._run(learners, seed)
        except KeyboardInterrupt:
            self._console.print("\n[yellow]Interrupted; stopping what the demo started.")
            return INTERRUPTED
        except StackUsageError as error:
            self._console.print(f"error: {error}", style="red", markup=False)
            return 2
        except _AWAY as error:
            self._console.print(f"error: {error}", style="red", markup=False)
            return 1
        finally:
            self._clean_up()
        self._console.print(f"{time.monotonic() - begun:.0f} s in all.")
        return 0 if right else 1

    def _run(self, learners: int, seed: int | None) -> bool:
        run = f"{int(time.time()):x}"
        random = Random(seed if seed is not None else run)  # noqa: S311 - chance, not secrets
        with shown(self._console) as progress, contextlib.ExitStack() as closing:
            steps = Steps(progress, self._console.is_terminal)
            with steps.step("stack", "starting what does not run yet") as say:
                environment = self._bring_up(progress)
                say(f"up: {', '.join(SERVICES)}")
            stage = closing.enter_context(Stage.open(environment))
            scenario = journeys(random, run, int(time.time() * 1000), learners)
            with steps.step("jobs", "submitting to Flink") as say:
                self._submit(stage, say, meanwhile=lambda: stage.prepare(scenario))
            page = f"http://{stage.flink}"
            if self._open_page:
                webbrowser.open(page)
            with steps.step("course", "publishing") as say:
                self._publish(stage, scenario.courses[0], say)
            with steps.step("learners", "learning") as say:
                first = time.monotonic()
                stage.send(scenario, say)
            with steps.step("end state", "waiting") as say:
                result = self._wait_for_end_state(stage, scenario, expected(scenario), first, say)
            heard = stage.heard
        report = demo_report.Report(self._console)
        report.learners(scenario, result.stored, heard.certificates)
        report.counters(result.counted)
        report.dead_letters(heard.dead_letters)
        report.steps(steps.seconds)
        if result.seconds is not None:
            self._console.print(
                f"From the first event to the last end state: {result.seconds:.1f} s "
                f"({len(scenario.messages)} events of {len(scenario.enrolments)} learners)."
            )
        self._console.print(f"Flink's page: {page}")
        report.verdict(result.problems)
        return not result.problems

    # --- the stack and the jobs

    def _bring_up(self, progress: Progress) -> dict[str, Any]:
        stack = Stack(self._directory, progress=progress, **self._stack_options)
        self._started = [state.service for state in stack.status() if state.service in SERVICES and not state.pids]
        with ThreadPoolExecutor(max_workers=2) as threads:
            jar = threads.submit(job_server_jar, progress)
            up = threads.submit(stack.up, SERVICES)
            try:
                jar.result()
                up.result()
            except KeyboardInterrupt:
                # a service that is starting gives up when its process ends
                for service in self._started:
                    stack.stop_service(service)
                raise
        return stack.environment()

    def _submit(self, stage: Stage, say: Callable[[str], None], meanwhile: Callable[[], None]) -> None:
        """Submit both jobs side by side, in place of those that an earlier run left, and wait until they run."""
        _cancel_jobs(stage.flink, say)
        stage.note_waiting_records()
        self._submitted = True
        configuration = self._directory / "demo.yaml"
        configuration.write_text(yaml.safe_dump(stage.environment, sort_keys=False))
        options = ("--config", str(configuration))
        logs = self._directory / "logs"
        with contextlib.ExitStack() as both:
            waits = {
                name: both.enter_context(flink_jobs.submitted(stage.flink, name, options, logs / f"demo-{name}.log"))
                for name in (RELATION, ACTIVITY)
            }
            say("submitting to Flink, enrolling the learners meanwhile")
            meanwhile()
            for name, wait in waits.items():
                say(f"waiting for {name} to run")
                stage.job_ids[name] = wait()
        say(f"both run, see http://{stage.flink}")
        stage.wait_for_waiting_records(say)

    def _clean_up(self) -> None:
        """Stop what the demo started, unless it is to be kept. Another Ctrl-C does not stop the stopping."""
        with _interrupts_ignored():
            self._stop_or_keep()

    def _stop_or_keep(self) -> None:
        stack = Stack(self._directory)
        how = "sunbird-pipelines stack down" + (f" --dir {self._directory}" if str(self._directory) != ".stack" else "")
        if self._keep:
            self._console.print(f"The stack and the jobs stay up; stop them with: {how}", soft_wrap=True)
            return
        flink = stack.environment().get("flink.master")
        if flink and self._submitted and "flink" not in self._started:
            with contextlib.suppress(requests.RequestException, StackError):
                _cancel_jobs(flink, lambda _: None)
        if self._started:
            with shown(self._console) as progress:
                Stack(self._directory, progress=progress).down(self._started)
        if set(self._started) < set(SERVICES):
            self._console.print(f"What was up before the demo stays up; stop it with: {how}", soft_wrap=True)

    # --- the journey

    def _publish(self, stage: Stage, course: Course, say: Callable[[str], None]) -> None:
        say(f"published {course.id}, waiting for its place in the relation cache")
        stage.publish(course)
        wait_until(lambda: stage.is_cached(course), CACHE_SECONDS, f"{course.id} did not reach the relation cache")
        say(
            f"{len(course.units)} modules and units and {len(course.leaf_nodes)} contents, "
            f"{len(course.optional_nodes)} of them optional, are in the relation cache"
        )

    def _wait_for_end_state(
        self, stage: Stage, scenario: Scenario, wanted: Expected, first: float, say: Callable[[str], None]
    ) -> Result:
        deadline = time.monotonic() + END_STATE_SECONDS
        seconds: float | None = None
        while True:
            stage.listen()
            stored = stage.reader.read(scenario.courses, list(wanted.end_states))
            off = {
                enrolment: differences(enrolment, wanted.end_states[enrolment], stored[enrolment])
                for enrolment in stored
            }
            problems = [line for lines in off.values() for line in lines] + _wrong_events(stage.heard, wanted)
            if not problems and seconds is None:
                seconds = time.monotonic() - first
            counted = {name: stage.counted(name) for name in (RELATION, ACTIVITY)}
            problems += _wrong_counters(counted, scenario, wanted)
            say(
                f"{counted[ACTIVITY]['total-events-count']} of {len(scenario.messages)} events handled, "
                f"{sum(not lines for lines in off.values())} of {len(off)} learners right, "
                f"{stage.heard.certificates.total()} certificates"
            )
            if not problems:
                return Result(stored, counted, [], seconds)
            if time.monotonic() > deadline:
                return Result(stored, counted, problems + stage.troubles(), None)


def _cancel_jobs(flink: str, say: Callable[[str], None]) -> None:
    for name in (RELATION, ACTIVITY):
        for job in flink_jobs.jobs(flink, name):
            if job.lives:
                say(f"cancelling {name}, which runs")
                flink_jobs.cancel(flink, job.id)


def _wrong_events(heard: Heard, wanted: Expected) -> list[str]:
    found = []
    for enrolment, state in wanted.end_states.items():
        requested = heard.certificates[enrolment.user_id]
        if requested != state.certificate:
            found.append(f"{enrolment.user_id}: {requested} certificates requested, not {int(state.certificate)}")
    for kind in sorted({*heard.audits, *wanted.audits}):
        if heard.audits[kind] != wanted.audits.get(kind, 0):
            found.append(f"{heard.audits[kind]} AUDIT events of type {kind}, not {wanted.audits.get(kind, 0)}")
    if len(heard.dead_letters) != wanted.dead_letters:
        found.append(f"{len(heard.dead_letters)} dead letters, not {wanted.dead_letters}")
    return found


def _wrong_counters(counted: Mapping[str, Mapping[str, int]], scenario: Scenario, wanted: Expected) -> list[str]:
    should_be = {ACTIVITY: wanted.counters, RELATION: _relation_counters(scenario.courses)}
    return [
        f"{job} counted {counted[job][name]} {name}, not {number}"
        for job, numbers in should_be.items()
        for name, number in numbers.items()
        if counted[job][name] != number
    ]


def _relation_counters(courses: Sequence[Course]) -> dict[str, int]:
    """spec: relation-cache-updater §7"""
    written = 0
    for course in courses:
        collections = course.tree.collections
        with_optional = [c for c in collections if any(content.optional for content in c.contents)]
        written += len(collections) + len(with_optional) + len(course.leaf_nodes) + len(course.units)
    return {
        "total-events-count": len(courses),
        "success-events-count": len(courses),
        "skipped-event-count": 0,
        "failed-events-count": 0,
        "db-read-count": len(courses),
        "cache-write-count": written,
    }
