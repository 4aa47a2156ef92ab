"""Directories of files on their way: each its own, gone on every path, also after a process was killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from io_connectors.workspace import Directories, Workspace

HOLD = """
import sys, pathlib, time
from io_connectors.workspace import Workspace
with Workspace(sys.argv[1]).open().directory("do_1") as directory:
    (directory / "file").write_text("x")
    print(directory, flush=True)
    time.sleep(600)
"""


def test_a_directory_is_gone_whatever_happens(tmp_path: Path) -> None:
    workspace = Workspace(str(tmp_path / "new")).open()
    for error in (None, ValueError, KeyboardInterrupt):
        try:
            with workspace.directory("do_1") as directory:
                assert directory.parent.parent == tmp_path / "new" / "do_1"
                assert list(directory.iterdir()) == []
                (directory / "file").write_text("x")
                (directory / "more").mkdir()
                if error:
                    raise error
        except (ValueError, KeyboardInterrupt):
            pass
        assert list((tmp_path / "new").iterdir()) == []


@pytest.mark.parametrize("name", ["../../evil", "/etc", "..", ".", "", "a/b", "x" * 300, "a\x00b", "Ä ü"])
def test_no_name_leads_elsewhere(tmp_path: Path, name: str) -> None:
    with Directories(tmp_path / "here").directory(name) as directory:
        assert directory.resolve().is_relative_to(tmp_path / "here")
        assert directory.parent.parent.parent == tmp_path / "here"
    assert list(tmp_path.iterdir()) == [tmp_path / "here"]


def test_many_threads_with_one_name(tmp_path: Path) -> None:
    workspace = Directories(tmp_path)

    def work(number: int) -> Path:
        with workspace.directory("do_1") as directory:
            (directory / "file").write_text(str(number))
            time.sleep(0.001)
            assert (directory / "file").read_text() == str(number)
            return directory

    with ThreadPoolExecutor(8) as threads:
        used = list(threads.map(work, range(200)))
    assert len(set(used)) == 200
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_process_left_is_removed_and_nothing_else(tmp_path: Path) -> None:
    processes = [
        subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    try:
        left, held = (Path(process.stdout.readline().strip()) for process in processes if process.stdout)
        processes[0].send_signal(signal.SIGKILL)
        processes[0].wait(timeout=30)
        long_ago = time.time() - 3_600
        for directory in (left.parent, held.parent):
            os.utime(directory, (long_ago, long_ago))
        (tmp_path / "do_2").mkdir()
        (tmp_path / "do_2" / "other").write_text("not ours")
        Directories(tmp_path)
        assert not left.parent.exists()
        assert (held / "file").read_text() == "x"
        assert (tmp_path / "do_2" / "other").exists()
    finally:
        for process in processes:
            process.kill()
            process.wait(timeout=30)
            if process.stdout:
                process.stdout.close()


def test_what_is_young_may_just_be_being_made(tmp_path: Path) -> None:
    (tmp_path / "do_1" / "_temp_1").mkdir(parents=True)
    Directories(tmp_path)
    assert (tmp_path / "do_1" / "_temp_1").exists()
