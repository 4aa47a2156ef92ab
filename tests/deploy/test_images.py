"""The images: what Dockerfiles should keep, locks that fit setup.py, their files built and started without Docker."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import grpc
import psutil
import pytest
from apache_beam.portability.api import beam_fn_api_pb2, beam_fn_api_pb2_grpc

from deploy.local.flink import VERSION as FLINK_VERSION
from deploy.local.jar import job_server_jar
from deploy.local.processes import LOOPBACK, Processes, accepts_connections, free_port
from pipelines.jobs import JOBS

ROOT = Path(__file__).parents[2]
DOCKER = ROOT / "deploy/docker"
DOCKERFILE = (DOCKER / "Dockerfile").read_text()
TOOLS = Path(sys.executable).parent
IMAGES = ("workers", "submit", "local", "flink")

pytestmark = pytest.mark.xdist_group("images")  # one process builds the tree, once


def stage(name: str) -> str:
    """The instructions of a target, without those of the stage that it begins with."""
    found = re.search(rf"^FROM \S+ AS {name}\n(.*?)(?=^FROM |\Z)", DOCKERFILE, re.MULTILINE | re.DOTALL)
    assert found, name
    return found[1]


def test_hadolint_finds_nothing() -> None:
    found = subprocess.run([TOOLS / "hadolint", DOCKER / "Dockerfile"], capture_output=True, text=True, check=False)
    assert (found.stdout, found.returncode) == ("", 0)


@pytest.mark.parametrize("image", IMAGES)
def test_an_image_runs_as_a_user_with_a_number_and_says_how_it_is(image: str) -> None:
    users = re.findall(r"^USER (\S+)", stage(image), re.MULTILINE)
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", users[-1])
    assert "HEALTHCHECK" in stage(image)
    # what is in it was built elsewhere
    assert [run for run in re.findall(r"^RUN (.+)", stage(image), re.MULTILINE) if not run.startswith("useradd ")] == []


def test_bases_are_pinned_and_flinks_is_the_one_of_the_stack() -> None:
    bases = dict(re.findall(r"^ARG (\w+_IMAGE)=(\S+)", DOCKERFILE, re.MULTILINE))
    assert len(bases) == 4
    for name, base in bases.items():
        assert re.search(r":\d+\.\d+\.\d+", base), name
    assert f":{FLINK_VERSION}-" in bases["FLINK_IMAGE"]
    froms = re.findall(r"^FROM (\S+)", DOCKERFILE, re.MULTILINE)
    assert {name for name in froms if "$" not in name} <= {"uv", "packages", "workers"}


@pytest.mark.parametrize(
    ("lock", "extras"), [("requirements.lock", ("install",)), ("requirements-stack.lock", ("install", "stack"))]
)
def test_locks_have_what_setup_pins(lock: str, extras: tuple[str, ...]) -> None:
    setup = (
        (ROOT / "setup.py").read_text().replace("{BEAM_VERSION}", re.search(r'BEAM_VERSION = "(.+)"', setup_py())[1])
    )
    parts = {
        "install": setup.partition("install_requires")[2].partition("extras_require")[0],
        "stack": setup.partition('"stack": [')[2].partition("],\n")[0],
    }
    locked = dict(re.findall(r"^([\w.-]+)==(\S+)", (DOCKER / lock).read_text(), re.MULTILINE))
    for part in extras:
        for name, version in re.findall(r'"([\w.-]+)(?:\[\w+\])?==([^"]+)"', parts[part]):
            plain = re.sub(r"[-_.]+", "-", name).lower()
            assert locked.get(plain) == version, f"{lock} has another {name}: run `make lock`"


def setup_py() -> str:
    return (ROOT / "setup.py").read_text()


@pytest.mark.parametrize("lock", ["requirements.lock", "requirements-stack.lock", "steps/build.txt"])
def test_every_locked_package_has_a_hash(lock: str) -> None:
    for requirement in re.split(r"\n(?=[\w.-]+==)", (DOCKER / lock).read_text())[1:]:
        assert "--hash=sha256:" in requirement, requirement.splitlines()[0]


def test_the_list_of_licenses_has_every_package_and_none_that_binds_its_users() -> None:
    rows = [row.split("|")[1:4] for row in (DOCKER / "licenses.md").read_text().splitlines() if row.startswith("| ")]
    licenses = {re.sub(r"[-_.]+", "-", name.strip()).lower(): license.strip() for name, _, license in rows[1:]}
    locked = set(re.findall(r"^([\w.-]+)==", (DOCKER / "requirements.lock").read_text(), re.MULTILINE))
    # what only another operating system installs is not in the list
    assert locked - licenses.keys() <= {"colorama", "pywin32"}, "run `make licenses`"
    binding = {name: text for name, text in licenses.items() if re.search(r"(?<!L)GPL|Affero|UNKNOWN", text)}
    assert binding == {}


def test_setup_and_the_images_take_the_same_uv() -> None:
    assert re.search(r'"(uv==[\d.]+)"', setup_py())[1] in (DOCKER / "steps/build.txt").read_text().split()


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files of the submit image, which are those of the workers' with the jar, built by the images' own steps."""
    folder = tmp_path_factory.mktemp("tree")
    built = subprocess.run(
        [DOCKER / "build_tree.sh", "submit", folder],
        env={**os.environ, "PATH": f"{TOOLS}{os.pathsep}{os.environ['PATH']}", "SUNBIRD_JAR": str(job_server_jar())},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=280,
        check=False,
    )
    assert built.returncode == 0, built.stdout
    return folder / "opt/sunbird-pipelines"


def outside_of_the_checkout(tree: Path) -> dict[str, str]:
    """The environment of an image's process: its own Python first, and nothing of this checkout."""
    kept = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}
    return {**kept, "PATH": f"{tree / 'bin'}{os.pathsep}{os.environ['PATH']}"}


def test_the_images_command_knows_every_job_and_the_jar(tree: Path, tmp_path: Path) -> None:
    def told(*command: str) -> str:
        return subprocess.run(
            [tree / "bin" / command[0], *command[1:]],
            cwd=tmp_path,
            env=outside_of_the_checkout(tree),
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        ).stdout

    assert {line.split()[0] for line in told("sunbird-pipelines", "list").splitlines()} == set(JOBS)
    where = "from deploy.local.jar import job_server_jar, __file__ as file; print(job_server_jar(), file)"
    jar, module = told("python", "-c", where).split()
    assert Path(jar) == tree / "share/sunbird-pipelines/sunbird-pipelines-beam.jar"
    assert Path(module).is_relative_to(tree / "lib")


@pytest.fixture
def pool(tree: Path, tmp_path: Path) -> Iterator[tuple[Processes, int]]:
    processes, port = Processes(tmp_path), free_port()
    command = [str(tree / "bin/python"), "-m", "deploy.local.worker_pool", str(port)]
    processes.start("pool", command, outside_of_the_checkout(tree), tmp_path)
    processes.wait_until("pool", lambda: accepts_connections(port), 60)
    yield processes, port
    processes.stop("pool")


def test_the_images_pool_starts_workers_of_the_images_python_on_loopback(
    tree: Path, pool: tuple[Processes, int]
) -> None:
    processes, port = pool
    running = processes.running("pool")
    assert running is not None
    listening = {c.laddr.ip for c in running.net_connections("tcp") if c.status == psutil.CONN_LISTEN}
    assert {address.removeprefix("::ffff:") for address in listening} == {LOOPBACK}

    request = beam_fn_api_pb2.StartWorkerRequest(worker_id="1")
    nobody = f"{LOOPBACK}:{free_port()}"
    request.control_endpoint.url = request.logging_endpoint.url = nobody
    with grpc.insecure_channel(f"{LOOPBACK}:{port}") as channel:
        stub = beam_fn_api_pb2_grpc.BeamFnExternalWorkerPoolStub(channel)
        assert not stub.StartWorker(request, timeout=30).error
        workers = running.children()
        assert len(workers) == 1
        assert "apache_beam" in " ".join(workers[0].cmdline())
        assert Path(workers[0].cmdline()[0]).name.startswith("python")
        assert str(tree) in workers[0].environ()["PATH"].split(os.pathsep)[0]
        assert not stub.StopWorker(beam_fn_api_pb2.StopWorkerRequest(worker_id="1"), timeout=30).error
    assert psutil.wait_procs(workers, timeout=30)[1] == []
