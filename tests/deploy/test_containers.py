"""The images and compose.yaml for real: built and run by Podman, with stand-ins for the makers' images; `make images`.

SUNBIRD_TEST_CONTAINERS=FOLDER keeps the image store there for the next time.
"""

from __future__ import annotations

import os
import re
import uuid
from collections.abc import Iterator
from pathlib import Path

import orjson
import pytest
import redis
import requests
from cassandra.cluster import Cluster
from confluent_kafka import Producer

from deploy.local.contents import ENVIRONMENT
from tests.deploy.containers import COMPOSE, IMAGES, PATIENCE_SECONDS, PROJECT, Composed, Podman, missing, podman_in
from tests.e2e.installation import eventually

KEPT = "SUNBIRD_TEST_CONTAINERS"
JOB = "relation-cache-updater"
SCRATCH = ("--tmpfs", "/tmp")  # noqa: S108
COLLECTION = "application/vnd.ekstep.content-collection"

pytestmark = [pytest.mark.images, pytest.mark.timeout(3600, func_only=False)]


def image(target: str) -> str:
    return str(COMPOSE["jobmanager"]["image"].replace("flink", target))


@pytest.fixture(scope="module")
def podman(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Podman]:
    if problem := missing():
        pytest.fail(problem)
    kept = os.environ.get(KEPT)
    with podman_in(Path(kept or tmp_path_factory.mktemp("containers")), keep=bool(kept)) as podman:
        yield podman


# --- each image by itself


@pytest.mark.parametrize("target", IMAGES)
def test_an_image_s_user_has_no_rights_and_nothing_that_builds(podman: Podman, target: str) -> None:
    look = "id -u; for program in javac mvn uv gcc cc make git; do command -v $program; done; true"
    assert podman("run", "--rm", "--entrypoint", "sh", image(target), "-c", look) in ("10001", "9999")
    if target != "flink":
        # nothing of a package may be changed by who runs it
        changed = podman("run", "--rm", "--entrypoint", "find", image(target), "/opt", "-writable", "!", "-type", "l")
        assert changed == ""


def test_the_submit_image_lists_the_jobs_on_a_root_file_system_that_it_may_not_write(podman: Podman) -> None:
    assert JOB in podman("run", "--rm", "--read-only", "--cap-drop", "all", "--network", "none", image("submit"))


def test_the_workers_are_healthy_while_their_pool_listens(podman: Podman) -> None:
    pool = podman("run", "--detach", "--read-only", "--cap-drop", "all", "--init", image("workers"))
    try:
        eventually(lambda: podman.healthy(pool), 60, lambda: podman("logs", pool))
        deaf = podman("run", "--detach", image("workers"), "50001")
        eventually(lambda: "listening at" in podman.run("logs", deaf).stderr, 60)
        assert not podman.healthy(deaf)
    finally:
        podman("rm", "--all", "--force", "--time", "5")


# --- compose.yaml


@pytest.fixture(scope="module")
def composed(podman: Podman) -> Iterator[Composed]:
    """compose.yaml's containers with one job, up."""
    composed = Composed(podman, JOB)
    composed.up("monitoring")
    composed.up("jobs")
    yield composed
    podman.tidy_up()


def publish(composed: Composed, *containers: str) -> None:
    """Publish a course with one content; wait until the job has stored what lies in it."""
    course = f"course-{uuid.uuid4().hex[:8]}"
    leaf = {"identifier": "content-1", "mimeType": "video/mp4"}
    tree = {"identifier": course, "mimeType": COLLECTION, "visibility": "Default", "children": [leaf]}
    with Cluster([composed.podman.address(composed.name("cassandra"))], protocol_version=5) as cluster:
        table = f"{ENVIRONMENT}_hierarchy_store.content_hierarchy"
        row = [course, orjson.dumps(tree).decode()]
        cluster.connect().execute(f"INSERT INTO {table} (identifier, hierarchy) VALUES (%s, %s)", row)  # noqa: S608
    edata = {"action": "post-publish-process", "mimeType": COLLECTION, "identifier": course}
    producer = Producer({"bootstrap.servers": f"localhost:{composed.kafka_port}"})
    event = orjson.dumps({"eid": "BE_JOB_REQUEST", "ets": 1_719_000_000_456, "edata": edata})
    producer.produce(f"{ENVIRONMENT}.content.postpublish.request", event)
    assert producer.flush(30) == 0
    with redis.Redis(composed.podman.address(composed.name("redis")), db=10, decode_responses=True) as cache:
        eventually(
            lambda: cache.smembers(f"{course}:{course}:leafnodes") == {"content-1"},
            PATIENCE_SECONDS,
            lambda: "\n".join(composed.podman.logs(container) for container in containers),
        )


def test_a_job_that_the_submit_image_submits_does_its_work(composed: Composed) -> None:
    publish(composed, *(composed.name(service) for service in ("jobs", "jobmanager", "taskmanager", "workers")))


def test_a_taskmanager_takes_the_java_parts_from_its_class_path(composed: Composed) -> None:
    told = composed.podman("exec", composed.name("taskmanager"), "bash", "-c", "cat /proc/*/cmdline | tr '\\0' '\\n'")
    assert re.search(r"flink-dist-[^:\n]+\.jar.*:/opt/flink/beam/sunbird-pipelines-beam\.jar", told)
    assert "-XX:+UseSerialGC" in told.splitlines()


def test_prometheus_reads_flink(composed: Composed) -> None:
    def read() -> set[str]:
        asked = f"http://localhost:{composed.prometheus_port}/api/v1/query"
        answer = requests.get(asked, {"query": "up == 1"}, timeout=10).json()
        return {result["metric"]["process"] for result in answer["data"]["result"]}

    eventually(lambda: read() == {"jobmanager", "taskmanager"}, 60, read)


# --- as on Kubernetes: the job as a jar, run by a Flink of its own, with the workers in the TaskManager's pod


def test_a_packaged_job_runs_by_flink_alone(composed: Composed, tmp_path: Path) -> None:
    podman = composed.podman
    for service in ("jobs", "workers", "taskmanager", "jobmanager"):
        podman("rm", "--force", "--time", "5", composed.name(service))
    job = tmp_path / "job"
    job.mkdir()
    job.chmod(0o777)
    podman(
        *("run", "--rm", "--read-only", *SCRATCH, "--cap-drop", "all", "--volume", f"{job}:/job"),
        *("--volume", f"{PROJECT}_settings:/settings:ro", image("submit"), "package", JOB),
        *("--config=/settings/site.yaml", "--out=/job/job.jar", "--", "--parallelism=1", "--sdk_worker_parallelism=1"),
        seconds=PATIENCE_SECONDS,
    )
    network = ("--network", f"{PROJECT}_default")
    properties = COMPOSE["jobmanager"]["environment"]["FLINK_PROPERTIES"].replace(": jobmanager\n", ": application\n")
    flink = ("run", "--detach", "--cap-drop", "all", "--env", f"FLINK_PROPERTIES={properties}")
    jar = ("--volume", f"{job}:/opt/flink/usrlib:ro")
    podman(
        *flink, *network, *jar, "--name", "application", "--hostname", "application", image("flink"), "standalone-job"
    )
    podman("pod", "create", "--name", "pod", *network, "--share", "net")
    beam = "HADOOP_CLASSPATH=/opt/flink/beam/sunbird-pipelines-beam.jar"
    podman(*flink, "--env", beam, "--pod", "pod", "--name", "taskmanager", image("flink"), "taskmanager")
    podman("run", "--detach", "--read-only", *SCRATCH, "--pod", "pod", "--name", "workers", image("workers"))
    publish(composed, "application", "taskmanager", "workers")
