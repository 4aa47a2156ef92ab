"""`sunbird-pipelines demo`: the learner's journey on the local stack.

A course is published, learners enrol, answer quizzes and learn, and seven jobs, on Flink, keep scores and progress,
merge accounts, count again what got lost, decide who has earned a certificate, and issue it. Then three more tell a
learner by mail, delete an account, and give the batch to another owner. All ten are submitted as one group: a minute
less than one by one. Everything is real: the servers, the jobs, the topics. The end is checked against what the
scenario implies, and shown on the terminal and on a page.
"""

from __future__ import annotations

import contextlib
import signal
import time
import webbrowser
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime
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
from obstore.exceptions import BaseError as ObjectStoreError
from rich.console import Console

from deploy.local import demo_page, demo_report
from deploy.local.demo_certificates import (
    GENERATOR,
    ISSUED_AUDIT,
    Certification,
    ExpectedCertificates,
    certification,
    expected_certificates,
)
from deploy.local.demo_outcome import Outcome
from deploy.local.demo_people import PEOPLE_JOBS, Happened, People, problems
from deploy.local.end_state import certificate_differences, differences, score_differences
from deploy.local.errors import StackError
from deploy.local.errors import UsageError as StackUsageError
from deploy.local.flink_jobs import submitted
from deploy.local.jar import job_server_jar
from deploy.local.progress import Progress, shown
from deploy.local.scenario import Course, Expected, Scenario, expected, journeys
from deploy.local.stack import DEFAULT_SLOTS, Stack
from deploy.local.stage import ACTIVITY, JOBS, RELATION, Heard, Stage, wait_until
from io_connectors.flink import Flink, FlinkError
from schemas.counters import COUNTERS

SERVICES = ("kafka", "cassandra", "redis", "elasticsearch", "flink", "object-storage", "smtp", "stubs")
# certificates of this project's own, with their pictures, instead of records of Sunbird RC
SETTINGS: Mapping[str, Mapping[str, Any]] = {GENERATOR: {"enable.rc.certificate": False}}
GROUP = "demo"
ALL_JOBS = (*JOBS, *PEOPLE_JOBS)

CACHE_SECONDS = 90
END_STATE_SECONDS = 180
# how often a line may change where each change is a line of its own
PLAIN_SECONDS = 3.0

INTERRUPTED = 130

# what a server that does not come up, or goes away, raises
_AWAY = (
    StackError,
    FlinkError,
    DriverException,
    NoHostAvailable,
    KafkaException,
    ObjectStoreError,
    redis.RedisError,
    requests.RequestException,
)

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)


@app.command()
def demo(
    keep: Annotated[bool, typer.Option("--keep", help="Leave the stack and the jobs up.")] = False,
    open_page: Annotated[
        bool, typer.Option("--open", help="Open the page with the certificates in the browser.")
    ] = False,
    page: Annotated[
        Path | None,
        typer.Option("--page", help="The page to write.", show_default="demo.html in the stack's directory"),
    ] = None,
    directory: Annotated[Path, typer.Option("--dir", help="The stack's data and logs.")] = Path(".stack"),
    free_ports: Annotated[bool, typer.Option("--free-ports", help="Take any ports that are free.")] = False,
    environment: Annotated[str, typer.Option("--env", help="Prefix of topics and keyspaces.")] = "dev",
    learners: Annotated[int, typer.Option(min=1, max=10_000, help="How many learners enrol.")] = 20,
    seed: Annotated[int | None, typer.Option(help="Repeat a run: what is left to chance is the same again.")] = None,
) -> int:
    """A learner's journey on the local stack, from a published course to the certificate.

    Starts what is needed, submits the jobs to Flink as one group, publishes a course, lets learners learn, and checks
    the end state. Writes a page with the learners and their certificates. Exit code 0 only when all of it is right.
    What the demo started, it stops.
    """
    console = Console(width=None if Console().is_terminal else 120, highlight=False)
    stack_options: dict[str, Any] = {"env": environment, "slots": DEFAULT_SLOTS}
    if free_ports:
        stack_options["ports"] = "free"
    with _stopped_by_signals():
        page = page or directory / "demo.html"
        return Demo(console, directory, stack_options, page=page, keep=keep, open_page=open_page).run(learners, seed)


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
        self,
        console: Console,
        directory: Path,
        stack_options: Mapping[str, Any],
        *,
        page: Path,
        keep: bool,
        open_page: bool,
    ) -> None:
        self._console = console
        self._directory = directory
        self._stack_options = stack_options
        self._page = page
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
            certificates = certification(scenario, run)
            people = stage.people(self._directory, certificates)
            with steps.step("jobs", "submitting to Flink") as say:
                self._submit(stage, say, meanwhile=lambda: stage.prepare(scenario, certificates))
            with steps.step("course", "publishing") as say:
                self._publish(stage, scenario.courses[0], say)
            with steps.step("quizzes", "answering") as say:
                stage.answer(certificates, say)
            with steps.step("learners", "learning") as say:
                first = datetime.now(UTC)
                stage.send(scenario, say)
            with steps.step("repairs", "waiting") as say:
                stage.repair(scenario, say)
            with steps.step("end state", "waiting") as say:
                wait = EndState(stage, scenario, certificates, first)
                outcome = wait.until_right(say, steps.seconds)
            with steps.step("people", "waiting") as say:
                outcome = replace(outcome, people=_of_people(people, say))
        report = demo_report.Report(self._console)
        report.show(outcome)
        self._console.print(f"Flink's page, while it runs: http://{stage.flink.address}", soft_wrap=True)
        demo_page.write(outcome, self._page)
        self._console.print(f"The certificates: {self._page}", soft_wrap=True, markup=False)
        if self._open_page:
            webbrowser.open(self._page.absolute().as_uri())
        others = sorted(set(COUNTERS) - set(ALL_JOBS))
        more = ", ".join(others)
        self._console.print(f"What else there is (sunbird-pipelines config JOB): {more}.", soft_wrap=True)
        found_wrong = [*outcome.problems, *problems(outcome.people)]
        report.verdict(found_wrong)
        return not found_wrong

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
        """Submit all jobs as one group, in place of those that an earlier run left, and wait until they run."""
        _cancel_jobs(stage.flink, say)
        stage.note_waiting_records()
        self._submitted = True
        group, log = self._group(stage.environment), self._directory / "logs" / f"{GROUP}.log"
        with submitted(stage.flink, GROUP, [], log, group=group) as until_they_run:
            say(f"submitting {len(ALL_JOBS)} jobs to Flink as one group, enrolling the learners meanwhile")
            meanwhile()
            say(f"waiting for the {len(ALL_JOBS)} jobs to run")
            stage.job_id = until_they_run()
        say(f"{len(ALL_JOBS)} jobs run as one, the group {GROUP} ({group}), see http://{stage.flink.address}")
        stage.wait_for_waiting_records(say)

    def _group(self, environment: Mapping[str, Any]) -> Path:
        """The file of the group: each job has the stack's settings, then those of its own."""
        site = self._directory / "demo.yaml"
        _write(site, environment)
        files = {job: [site.name] for job in ALL_JOBS}
        for job, settings in SETTINGS.items():
            own = self._directory / f"demo-{job}.yaml"
            _write(own, settings)
            files[job].append(own.name)
        group = self._directory / "demo-group.yaml"
        _write(group, {"group": GROUP, "jobs": files})
        return group

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
            with contextlib.suppress(requests.RequestException, FlinkError):
                _cancel_jobs(Flink(flink), lambda _: None)
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


def _of_people(people: People, say: Callable[[str], None]) -> list[Happened]:
    say(f"telling {people.told.user_id}, deleting {people.leaver}, replacing {people.owner}")
    people.move_in()
    people.act()
    happened = people.until_done()
    say("one learner told by mail, one account deleted, one owner replaced")
    return happened


class EndState:
    """What the stores, the topics and the jobs' counters should say in the end, and what they say."""

    def __init__(self, stage: Stage, scenario: Scenario, certification: Certification, first: datetime) -> None:
        self._stage = stage
        self._scenario = scenario
        self._certification = certification
        self._first = first
        self._progress = expected(scenario)
        self._wanted = expected_certificates(scenario, certification, self._progress)

    def until_right(self, say: Callable[[str], None], steps: Mapping[str, float]) -> Outcome:
        """Wait until everything is as it should be, or too long: the outcome then has problems."""
        deadline = time.monotonic() + END_STATE_SECONDS
        while True:
            outcome = self._look(steps)
            say(
                f"{outcome.counted[ACTIVITY]['total-events-count']} of {self._progress.counters['total-events-count']} "
                "events handled, "
                f"{outcome.completed} learners completed the course, "
                f"{outcome.issued} of {self._wanted.number} certificates issued"
            )
            if not outcome.problems:
                return outcome
            if time.monotonic() > deadline:
                return replace(outcome, problems=[*outcome.problems, *self._stage.troubles()])

    def _look(self, steps: Mapping[str, float]) -> Outcome:
        stage, progress, wanted = self._stage, self._progress, self._wanted
        stage.listen()
        stored = stage.reader.read(self._scenario.courses, list(progress.end_states))
        assert stage.certificates is not None  # noqa: S101 - the stage was prepared
        certificates = stage.certificates.read()
        counted = stage.counted()
        problems = []
        for enrolment, state in progress.end_states.items():
            problems += differences(enrolment, state, stored[enrolment])
            problems += score_differences(self._certification, enrolment, stored[enrolment])
            problems += certificate_differences(
                self._certification,
                enrolment,
                wanted.issued[enrolment],
                certificates.issued[enrolment],
                stored[enrolment].completed_on,
            )
        noted = {each.identifier for found in certificates.issued.values() for each in found if each.document}
        for where, ids in (("the object store", certificates.documents), ("the registry", certificates.registered)):
            if unknown := len(ids - noted):
                problems.append(f"{where} has {unknown} certificates that no enrolment names")
        problems += _wrong("learners told by", certificates.told, wanted.told)
        problems += _wrong_events(stage.heard, self._certification, progress, wanted)
        for job, numbers in {
            RELATION: _relation_counters(self._scenario.courses),
            ACTIVITY: progress.counters,
            **wanted.counters,
        }.items():
            problems += _wrong(f"{job} counted", counted[job], numbers)
        return Outcome(
            self._scenario,
            self._certification,
            progress,
            wanted,
            self._first,
            stored,
            certificates,
            counted,
            list(stage.heard.dead_letters),
            problems,
            steps,
        )


def _write(file: Path, content: Mapping[str, Any]) -> None:
    file.write_text(yaml.safe_dump(dict(content), sort_keys=False))


def _cancel_jobs(flink: Flink, say: Callable[[str], None]) -> None:
    for name in (GROUP, *ALL_JOBS):
        for job in flink.living(name):
            say(f"cancelling {name}, which runs")
            flink.cancel(job.id)


def _wrong(what: str, found: Mapping[str, int], wanted: Mapping[str, int]) -> list[str]:
    return [
        f"{what} {name}: {found.get(name, 0)}, not {number}"
        for name, number in wanted.items()
        if found.get(name, 0) != number
    ]


def _wrong_events(
    heard: Heard, certified: Certification, progress: Expected, wanted: ExpectedCertificates
) -> list[str]:
    # one for each attempt, and one for the completed course
    requests = {
        enrolment.user_id: certified.events_of(enrolment) + state.certificate
        for enrolment, state in progress.end_states.items()
    }
    audits = dict.fromkeys(heard.audits, 0) | dict(progress.audits) | {ISSUED_AUDIT: wanted.number}
    letters = {ACTIVITY: progress.dead_letters, **wanted.dead_letters}
    return [
        *_wrong("certificates requested for", heard.requests, requests),
        *_wrong("AUDIT events of type", heard.audits, audits),
        *_wrong("dead letters of", Counter(job for job, _ in heard.dead_letters), letters),
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
