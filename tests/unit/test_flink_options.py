"""The options that every job gets on Flink are known to Beam and arrive: Beam only warns of a name it does not know."""

import struct
import zipfile
from types import SimpleNamespace
from typing import Any

import pytest
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.portability.api import beam_job_api_pb2
from apache_beam.runners.portability.flink_runner import FlinkRunner
from google.protobuf import json_format

from deploy.local.jar import job_server_jar
from pipelines import flink, runtime

FLINK_OPTIONS = "org/apache/beam/runners/flink/FlinkPipelineOptions.class"

# given to the runner's Python half, which does not pass them on as they are
IN_PYTHON = {"runner", "flink_master", "flink_job_server_jar"}


@pytest.fixture(scope="module")
def flink_pipeline_options() -> bytes:
    """The class file of the options that Beam's Flink runner knows."""
    with zipfile.ZipFile(job_server_jar()) as jar:
        return jar.read(FLINK_OPTIONS)


def has_method(class_file: bytes, name: str) -> bool:
    # in a class file, each name is a constant: its kind, its length, its text
    return struct.pack(">BH", 1, len(name)) + name.encode() in class_file


def getter(option: str) -> str:
    return "get" + "".join(word.capitalize() for word in option.split("_"))


@pytest.mark.parametrize("option", flink.DEFAULTS)
def test_beam_knows_the_option(option: str, flink_pipeline_options: bytes) -> None:
    in_python = PipelineOptions([]).get_all_options()
    assert option in in_python or has_method(flink_pipeline_options, getter(option))


def test_a_name_that_beam_does_not_know_is_noticed(flink_pipeline_options: bytes) -> None:
    assert has_method(flink_pipeline_options, "getMaxBundleTimeMills")
    assert not has_method(flink_pipeline_options, getter("max_bundle_time_millis"))


@pytest.mark.parametrize("described", [False, True], ids=["uber jar", "job server"])
def test_the_options_arrive_at_beams_java_half(described: bool) -> None:
    """The one way of submission asks nobody which options there are, the other one asks Beam's job server."""
    described_options = [
        beam_job_api_pb2.PipelineOptionDescriptor(name=name, type=kind)
        for name, kind in (
            ("finish_bundle_before_checkpointing", beam_job_api_pb2.PipelineOptionType.BOOLEAN),
            ("max_bundle_size", beam_job_api_pb2.PipelineOptionType.INTEGER),
            ("max_bundle_time_mills", beam_job_api_pb2.PipelineOptionType.INTEGER),
            ("checkpointing_interval", beam_job_api_pb2.PipelineOptionType.INTEGER),
        )
        if described
    ]
    answer = beam_job_api_pb2.DescribePipelineOptionsResponse(options=described_options)
    service = SimpleNamespace(DescribePipelineOptions=lambda *_, **__: answer)
    options = PipelineOptions(flink.options("a-job", {}, [], None))
    sent = FlinkRunner().create_job_service_handle(service, options).get_pipeline_options()
    arrived = {name.split(":")[2]: plain(value) for name, value in json_format.MessageToDict(sent).items()}
    wanted = {name: plain(value) for name, value in flink.DEFAULTS.items() if name not in IN_PYTHON}
    assert {name: arrived.get(name) for name in wanted} == wanted
    assert arrived["job_name"] == "a-job"


def plain(value: Any) -> str:
    """Beam sends numbers as text, and Java reads `true` in either form."""
    return str(value).lower()


def test_of_what_flink_refuses_the_deepest_cause_is_told() -> None:
    """As it says of a topic that is not there, some 5,000 characters of it."""
    cause = "java.lang.IllegalStateException: Could not find any partitions. Please check Kafka configuration"
    answer = (
        r'Request to http://flink:8081/v1/jars/x.jar/run failed with status 400: {"errors":["org.apache.flink.runtime.'
        r"RestHandlerException: Could not execute application.\n\tat org.apache.flink.A.b(A.java:114)\n"
        r"Caused by: java.lang.RuntimeException: Job x failed.\n\tat org.apache.beam.C.d(C.java:186)\n\t... 4 more\n"
        rf"Caused by: {cause}\n\tat org.apache.beam.E.f(E.java:512)\n\t... 18 more\n"
        r'"]}'
    )
    assert runtime._cause(RuntimeError(answer)) == cause
    assert runtime._cause(RuntimeError("a plain one\nwith more")) == "a plain one"
