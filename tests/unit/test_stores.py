"""The recipes of stores that the jobs make of their settings."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

import pytest

from io_connectors.http import Http
from io_connectors.keycloak import Keycloak
from pipelines import jobs
from pipelines.configuration import load
from pipelines.settings import HttpSettings
from tests.unit.test_step_labels import SECRETS, SITE

WITHOUT_RC = [
    "enable.rc.certificate=false",
    "service.certreg.basePath=http://registry",
    "cert_cloud_storage_type=local",
    "cert_container_name=certificates",
]
TIMEOUTS = ("http.connect.timeout.seconds", "http.read.timeout.seconds")


def clients(recipe: Any) -> Iterator[Http]:
    """The clients of HTTP in a recipe of stores; that of Keycloak has time-outs of its own."""
    if isinstance(recipe, Http):
        yield recipe
    elif isinstance(recipe, tuple):
        for part in recipe:
            yield from clients(part)
    elif dataclasses.is_dataclass(recipe) and not isinstance(recipe, Keycloak):
        for field in dataclasses.fields(recipe):
            yield from clients(getattr(recipe, field.name))


@pytest.mark.parametrize("job", [job for job in jobs.JOBS if issubclass(jobs.load(job).Settings, HttpSettings)])
@pytest.mark.parametrize("more", [[], WITHOUT_RC])
def test_time_outs_of_services_can_be_set(job: str, more: list[str]) -> None:
    """spec: core §8"""
    module = jobs.load(job)
    overrides = [*more, *(f"{name}={number}" for number, name in enumerate(TIMEOUTS, 3))]
    found = list(clients(module.stores(load(module.Settings, [SITE], overrides, SECRETS, job_name=job).settings)))
    assert found
    assert {(client.connect_timeout, client.read_timeout) for client in found} == {(3, 4)}
    found = list(clients(module.stores(load(module.Settings, [SITE], more, SECRETS, job_name=job).settings)))
    assert {(client.connect_timeout, client.read_timeout) for client in found} == {(10, 60)}


@pytest.mark.parametrize("job", [job for job in jobs.JOBS if not issubclass(jobs.load(job).Settings, HttpSettings)])
def test_the_others_know_the_keys(job: str) -> None:
    loaded = load(jobs.load(job).Settings, [SITE], [f"{name}=1" for name in TIMEOUTS], SECRETS, job_name=job)
    assert loaded.unknown == []
