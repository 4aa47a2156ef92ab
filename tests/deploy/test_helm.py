"""The chart: what it makes of four installations fits Kubernetes, the Flink operator and the jobs' own settings."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft7Validator
from referencing import Registry, Resource
from referencing.jsonschema import DRAFT7

from deploy.helm import jobs as chart_jobs
from deploy.local import flink
from pipelines import jobs
from pipelines.configuration import load
from pipelines.groups import beam_options_of, load_group
from pipelines.settings import UsageError, accepted_names, type_name
from tests.deploy.tools import tool

HELM = Path(__file__).parents[2] / "deploy/helm"
CHART = HELM / "sunbird-pipelines"
INSTALLATIONS = {"default": [], **{file.stem: ["--values", str(file)] for file in (HELM / "installations").iterdir()}}

Document = dict[str, Any]
Rendered = Callable[..., list[Document]]

pytestmark = pytest.mark.xdist_group("helm")  # one process renders the chart, once


@pytest.fixture(scope="module")
def helm() -> str:
    return tool("helm")


@pytest.fixture(scope="module")
def rendered(helm: str) -> Rendered:
    """What `helm template` makes of arguments. Raises CalledProcessError."""

    @cache
    def render(*arguments: str) -> list[Document]:
        command = [helm, "template", "sunbird", str(CHART), "--namespace", "streams", *arguments]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
        return [document for document in yaml.safe_load_all(done.stdout) if document]

    return render


@pytest.fixture(scope="module")
def faults() -> Callable[[Document], list[str]]:
    """What the schemas of Kubernetes, and that of the operator, say against a document."""
    folder = Path(tool("schemas"))

    definitions = Resource(json.loads((folder / "_definitions.json").read_text()), DRAFT7)
    registry: Registry[Any] = Registry().with_resource("_definitions.json", definitions)

    @cache
    def validator(kind: str, version: str) -> Draft7Validator:
        group, _, number = version.rpartition("/")
        names = [kind.lower(), *([group.split(".")[0]] if group else []), number]
        schema = json.loads((folder / f"{'-'.join(names)}.json").read_text())
        return Draft7Validator(schema, registry=registry)

    def found(document: Document) -> list[str]:
        errors = validator(document["kind"], document["apiVersion"]).iter_errors(document)
        return [f"{error.json_path}: {error.message[:200]}" for error in errors]

    return found


def of_kind(documents: list[Document], kind: str) -> dict[str, Document]:
    return {document["metadata"]["name"]: document for document in documents if document["kind"] == kind}


@pytest.fixture(params=INSTALLATIONS)
def documents(request: pytest.FixtureRequest, rendered: Rendered) -> list[Document]:
    return rendered(*INSTALLATIONS[request.param])


def test_the_chart_knows_every_job() -> None:
    assert json.loads(chart_jobs.LIST.read_text()) == sorted(jobs.JOBS), "run `python -m deploy.helm.jobs`"
    assert chart_jobs.LIST.read_text() == chart_jobs.text()


@pytest.mark.parametrize("installation", INSTALLATIONS)
def test_helm_lint_finds_nothing(helm: str, installation: str) -> None:
    command = [helm, "lint", "--strict", str(CHART), *INSTALLATIONS[installation]]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_everything_fits_its_schema(documents: list[Document], faults: Callable[[Document], list[str]]) -> None:
    assert {d["metadata"]["name"]: found for d in documents if (found := faults(d))} == {}
    assert of_kind(documents, "FlinkDeployment")


def test_the_schemas_find_what_is_wrong(rendered: Rendered, faults: Callable[[Document], list[str]]) -> None:
    good = next(iter(of_kind(rendered(), "FlinkDeployment").values()))

    def with_change(change: Callable[[Document], Any]) -> list[str]:
        document = json.loads(json.dumps(good))
        change(document["spec"])
        return faults(document)

    assert with_change(lambda spec: None) == []
    assert with_change(lambda spec: spec["job"].update(upgradeMode="lossy"))
    assert with_change(lambda spec: spec.update(flinkConfigurations={}))
    assert with_change(lambda spec: spec["flinkConfiguration"].update(slots=1))
    container = lambda spec: spec["taskManager"]["podTemplate"]["spec"]["containers"][1]  # noqa: E731
    assert with_change(lambda spec: container(spec).update(volumeMount=[]))
    assert with_change(lambda spec: container(spec).pop("name"))


def test_by_default_every_job_runs_by_itself(rendered: Rendered) -> None:
    found = of_kind(rendered(), "FlinkDeployment")
    assert set(found) == {f"sunbird-{name.replace('.', '-')}" for name in jobs.JOBS}


def test_the_jobs_take_their_configuration(documents: list[Document], tmp_path: Path) -> None:
    maps = of_kind(documents, "ConfigMap")
    # an installation that names no deployments still has to give some jobs an address that has no default
    everything = len(maps) == len(jobs.JOBS)
    for name, deployment in of_kind(documents, "FlinkDeployment").items():
        folder = tmp_path / name
        folder.mkdir()
        for file, text in maps[name]["data"].items():
            (folder / file).write_text(text)
        package = deployment["spec"]["jobManager"]["podTemplate"]["spec"]["initContainers"][0]
        secrets = {variable["name"]: f"value of {variable['name']}" for variable in package.get("env", ())}
        try:
            group = load_group(folder / "group.yaml", [], secrets)
        except UsageError as error:
            if everything and " is missing" in str(error):
                continue
            raise
        for member in group.members:
            assert member.loaded.unknown == []
            assert member.loaded.settings.job_env in ("dev", "prod", "sunbirddev")
        beam_options_of(group.members)
        command, _, options = "\n".join(package["args"]).partition("\n--\n")
        assert f"--parallelism={deployment['spec']['job']['parallelism']}" in options.split("\n")
        for path in [a.rpartition("=")[2] for a in command.split("\n") if "/etc/sunbird-pipelines" in a]:
            assert Path(path).name in maps[name]["data"]


def test_secrets_come_by_reference_alone(rendered: Rendered, tmp_path: Path) -> None:
    documents = rendered(*INSTALLATIONS["amazon"])
    site = of_kind(documents, "ConfigMap")["sunbird-progress"]["data"]["site.yaml"]
    assert "lms-cassandra.password: ${SECRET_LMS_CASSANDRA_PASSWORD}" in site
    (tmp_path / "site.yaml").write_text(site)
    variables = ("LMS_CASSANDRA_PASSWORD", "LMS_CASSANDRA_USERNAME", "REDIS_PASSWORD", "SERVICE_RC_RCAPIKEY")
    environ = {f"SECRET_{name}": f"value of {name}" for name in variables}
    settings: Any = load(
        jobs.load("activity-aggregate-updater").Settings, [tmp_path / "site.yaml"], [], environ
    ).settings
    assert settings.lms_cassandra_password.get_secret_value() == "value of LMS_CASSANDRA_PASSWORD"
    package = of_kind(documents, "FlinkDeployment")["sunbird-progress"]["spec"]["jobManager"]["podTemplate"]["spec"]
    assert {"name": "SECRET_REDIS_PASSWORD", "valueFrom": {"secretKeyRef": {"name": "redis", "key": "password"}}} in (
        package["initContainers"][0]["env"]
    )


def test_the_workers_stand_beside_the_task_manager_and_the_job_is_packaged_beside_the_job_manager(
    documents: list[Document],
) -> None:
    for deployment in of_kind(documents, "FlinkDeployment").values():
        spec = deployment["spec"]
        flink, workers = spec["taskManager"]["podTemplate"]["spec"]["containers"]
        assert flink["name"] == spec["podTemplate"]["spec"]["containers"][0]["name"] == "flink-main-container"
        assert flink["env"][0]["value"] == "/opt/flink/beam/sunbird-pipelines-beam.jar"
        assert workers["args"] == ["50000"]
        assert workers["securityContext"]["runAsNonRoot"]
        package = spec["jobManager"]["podTemplate"]["spec"]
        out = next(a for a in package["initContainers"][0]["args"] if a.startswith("--out="))
        assert Path(out).name == Path(spec["job"]["jarURI"]).name
        assert package["containers"][0]["volumeMounts"] == [{"name": "job", "mountPath": "/opt/flink/usrlib"}]


def test_another_configuration_changes_the_deployment(rendered: Rendered) -> None:
    def marks(*arguments: str) -> dict[str, str]:
        found = of_kind(rendered(*arguments), "FlinkDeployment")
        key = "sunbird-pipelines/configuration"
        return {name: d["spec"]["podTemplate"]["metadata"]["annotations"][key] for name, d in found.items()}

    before, after = marks(), marks("--set", "redis.host=another")
    assert all(before[name] != after[name] for name in before)


def test_presets_of_checkpoints(rendered: Rendered) -> None:
    def first(*arguments: str) -> tuple[dict[str, str], Document]:
        found = next(iter(of_kind(rendered(*arguments), "FlinkDeployment").values()))["spec"]
        return found["flinkConfiguration"], found["podTemplate"]["spec"]

    configuration, pod = first(*INSTALLATIONS["azure"])
    account = "fs.azure.account.keyprovider.sunbirdexample.blob.core.windows.net"
    assert configuration[account] == "org.apache.flink.fs.azurefs.EnvironmentVariableKeyProvider"
    assert configuration["high-availability.type"] == "kubernetes"
    assert {variable["name"] for variable in pod["containers"][0]["env"]} == {
        "ENABLE_BUILT_IN_PLUGINS",
        "AZURE_STORAGE_KEY",
    }
    gcs = ("store=gcs", "path=gs://bucket/flink", "credentials=key")
    configuration, pod = first(*(f"--set=checkpoints.{value}" for value in gcs))
    assert configuration["state.checkpoints.dir"].startswith("gs://bucket/flink/")
    assert pod["volumes"][0]["secret"] == {"secretName": "key"}
    configuration, pod = first("--set=checkpoints.store=volume", "--set=checkpoints.claim=flink")
    assert configuration["state.checkpoints.dir"].startswith("file:///checkpoints/")
    assert pod["containers"][0]["volumeMounts"][0]["mountPath"] == "/checkpoints"
    configuration, pod = first(*INSTALLATIONS["beside-scala"])
    assert (configuration["s3.endpoint"], configuration["s3.path.style.access"]) == ("http://minio:9000", "true")


def test_what_all_pods_have_and_what_a_kind_of_pod_has_come_together_by_name(rendered: Rendered) -> None:
    """As the operator merges pod templates: by position when it is not told otherwise, and only what has a name."""

    def unnamed(common: Any, special: Any, path: str = "") -> list[str]:
        if isinstance(common, dict) and isinstance(special, dict):
            return [p for key in common.keys() & special for p in unnamed(common[key], special[key], f"{path}.{key}")]
        if not isinstance(common, list) or not isinstance(special, list):
            return []
        if not all(isinstance(element, dict) and "name" in element for element in (*common, *special)):
            return [path]
        pairs = [(a, b) for a in common for b in special if a["name"] == b["name"]]
        return [p for a, b in pairs for p in unnamed(a, b, f"{path}.{a['name']}")]

    stores = [
        INSTALLATIONS["azure"],
        ["--set=checkpoints.store=volume", "--set=checkpoints.claim=flink", "--set=defaults.upgradeMode=savepoint"],
    ]
    for arguments in stores:
        for deployment in of_kind(rendered(*arguments), "FlinkDeployment").values():
            spec = deployment["spec"]
            assert spec["flinkConfiguration"]["kubernetes.operator.pod-template.merge-arrays-by-name"] == "true"
            for kind in ("jobManager", "taskManager"):
                assert unnamed(spec["podTemplate"], spec[kind]["podTemplate"]) == []


def test_flink_is_told_what_it_needs_on_java_17(rendered: Rendered) -> None:
    spec = next(iter(of_kind(rendered(), "FlinkDeployment").values()))["spec"]
    assert spec["flinkConfiguration"]["env.java.opts.all"].split() == [
        *(f"--add-exports={package}=ALL-UNNAMED" for package in flink.EXPORTS),
        *(f"--add-opens={package}=ALL-UNNAMED" for package in flink.OPENS),
    ]


def test_an_installation_has_the_last_word_on_flinks_configuration(helm: str, tmp_path: Path) -> None:
    values = {
        "deployments": {"relations": {"jobs": {"relation-cache-updater": {}}}},
        "defaults": {
            "restartNonce": 1_764_195_712,
            "flinkConfiguration": {"taskmanager.memory.managed.size": "128m", "web.refresh-interval": 10_000_000},
        },
    }
    (tmp_path / "values.yaml").write_text(yaml.safe_dump(values))
    command = [helm, "template", "sunbird", str(CHART), "--values", str(tmp_path / "values.yaml")]
    text = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout
    assert text.count("taskmanager.memory.managed.size:") == 1
    spec = of_kind(list(yaml.safe_load_all(text)), "FlinkDeployment")["sunbird-relations"]["spec"]
    assert spec["flinkConfiguration"]["taskmanager.memory.managed.size"] == "128m"
    assert spec["flinkConfiguration"]["web.refresh-interval"] == "10000000"
    assert spec["restartNonce"] == 1_764_195_712
    assert isinstance(spec["restartNonce"], int)


def test_alerts_know_the_processes_that_the_operator_finds(rendered: Rendered) -> None:
    """The Prometheus Operator calls a job NAMESPACE/NAME; the alerts ask for the name that compose.yaml gives it."""
    assert 'up{job="flink"}' in (HELM.parent / "monitoring/rules.yml").read_text()
    (monitor,) = of_kind(rendered("--set=monitoring.podMonitor.enabled=true"), "PodMonitor").values()
    (endpoint,) = monitor["spec"]["podMetricsEndpoints"]
    assert endpoint["relabelings"] == [{"targetLabel": "job", "replacement": "flink"}]


@pytest.mark.parametrize("section", ["config", "secrets", "cassandra", "redis", "elasticsearch"])
def test_a_section_of_which_nothing_is_left_says_nothing(rendered: Rendered, section: str) -> None:
    """All of its lines are comments: YAML's null, by which Helm removes the chart's own values."""
    site = yaml.safe_load(
        of_kind(rendered(f"--set={section}=null"), "ConfigMap")["sunbird-ml-user-delete"]["data"]["site.yaml"]
    )
    assert site["kafka.broker-servers"] == "kafka:9092"
    prefix = {"cassandra": "lms-cassandra.", "elasticsearch": "es."}.get(section, f"{section}.")
    assert [name for name in site if name.startswith(prefix)] == []


def test_a_job_without_keys_of_its_own(rendered: Rendered, tmp_path: Path) -> None:
    (tmp_path / "values.yaml").write_text("deployments: {ml: {jobs: {ml-user-delete: {config: }}}}")
    found = of_kind(rendered("--values", str(tmp_path / "values.yaml")), "ConfigMap")
    assert found["sunbird-ml"]["data"]["ml-user-delete.yaml"].strip() == "{}"


def test_no_secret_of_any_job_comes_into_a_config_map() -> None:
    schema = json.loads((CHART / "values.schema.json").read_text())["properties"]
    of_a_job = schema["deployments"]["additionalProperties"]["properties"]["jobs"]["additionalProperties"]["properties"]
    secrets = {
        name
        for job in jobs.JOBS
        for field in jobs.load(job).Settings.model_fields.values()
        if type_name(field.annotation) == "secret text"
        for name in accepted_names(field)
    }
    for config in (schema["config"], of_a_job["config"]):
        names = Draft7Validator(config["propertyNames"])
        # that one may be a path
        assert {name for name in secrets if names.is_valid(name)} == {"fcm_service_account"}


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--set", "deployments.a.jobs.no-such-job.config.a=b"], "there is no job no-such-job"),
        (["--set", "defaults.upgradeMode=lossy"], "upgradeMode"),
        (["--set", "defaults.upgradeMode=savepoint"], "wants checkpoints.store"),
        (["--set", "highAvailability=true"], "wants checkpoints.store"),
        (["--set", "checkpoints.store=s3"], "path"),
        (["--set", "checkpoints.store=azure,checkpoints.path=wasbs://a@b.blob.core.windows.net"], "credentials"),
        (["--set", "kafka.brokers=kafka"], "brokers"),
        (["--set", "kafka.broker=kafka:9092"], "broker"),
        (["--set-json", 'config={"lms-cassandra.password":"secret"}'], "lms-cassandra.password"),
        (["--set", "defaults.beamOptions={--no_finish_bundle_before_checkpointing}"], "beamOptions"),
        (["--set", "defaults.parallelism=0"], "parallelism"),
        (["--set", f"deployments.{'a' * 38}.jobs.ml-user-delete.config.a=b"], "45 characters"),
    ],
)
def test_what_cannot_work_is_refused(rendered: Rendered, arguments: list[str], told: str) -> None:
    with pytest.raises(subprocess.CalledProcessError) as refused:
        rendered(*arguments)
    assert told in refused.value.stderr


@pytest.mark.chart
def test_kubeconform_and_helm_3_agree(tmp_path: Path) -> None:
    """With the real kubeconform and Helm 3, both built with Go: `make helm`."""
    kubeconform, helm3, schemas = tool("kubeconform"), tool("helm3"), tool("schemas")
    for name, arguments in INSTALLATIONS.items():
        for verb in (["lint", "--strict", CHART], ["template", "sunbird", CHART]):
            # a Helm that is built this way does not know of a newer Kubernetes by itself
            command = [helm3, *verb, "--kube-version", "1.32.0", *arguments]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            assert done.returncode == 0, done.stdout + done.stderr
        (tmp_path / f"{name}.yaml").write_text(done.stdout)
    places = f"{schemas}/{{{{.ResourceKind}}}}{{{{.KindSuffix}}}}.json"
    checked = subprocess.run(
        [kubeconform, "-strict", "-summary", "-output", "json", "-schema-location", places, tmp_path],
        capture_output=True,
        text=True,
        check=False,
    )
    assert checked.returncode == 0, checked.stdout
    assert json.loads(checked.stdout)["summary"]["valid"] > 3 * len(INSTALLATIONS)
