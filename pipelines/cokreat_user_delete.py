"""Passes the deletion of a user on to the coKreat portal.

When a user is deleted, the user service says so. This job calls the contribution service's delete-user API once for
each such event; that service erases what the portal knows of the person.

Reads   {env}.delete.user (events of action delete-user)
Writes  no topic; with kafka.failed.topic: failed events
Asks    the contribution service (coKreat's program-service)

A person who never used the portal is the usual case: the service answers 404 with "not found", and the event is
skipped. An answer of 5xx or none at all is asked for again (user_delete.max_attempts, .retry_delay_ms). After that,
and at once after any other answer, the event has failed: it is logged, counted, and goes to kafka.failed.topic. Where
none is set, 5xx and no answer end the run instead, so that no deletion is lost silently; Flink begins again.

The call may be repeated: a second deletion finds nobody. The service announces its deletions on the topic that this job
reads, with the actor "coKreat Flink Job": those are skipped, as are the job's own failed events.

Child accounts of the user (edata.managed_users) are not passed on; the user service sends no events of their own.

Differs from the Scala job: a user who may not be deleted (organisation admins: always 500) never stops the job; its own
echo is not answered; answers without responseCode, or that are no JSON, fail the event alone; the counters grow.
"""

from __future__ import annotations

import apache_beam as beam

from io_connectors.cokreat_services import ContributionService
from pipelines.channels import WithoutKey
from pipelines.settings import HttpSettings, OptionalFailedTopicSettings, key
from pipelines.stores import calls, http
from transforms.dead_letter import FAILED
from transforms.decode import Record
from transforms.delete_contributors import ContributorStores, DeleteContributors, SelectDeletions

NAME = "cokreat-user-delete"

# This many workers could share the work.
SHARDS = 1_000
# Deletions that are waited for side by side. A bundle is no more than that, so it lasts no longer than one call with
# all its attempts.
AT_ONCE = 16


class Settings(OptionalFailedTopicSettings, HttpSettings):
    """spec: cokreat-user-delete §5"""

    kafka_input_topic: str = key("kafka.input.topic", "{env}.delete.user", "deleted users")
    kafka_group_id: str = key(
        "kafka.groupId",
        "{env}_cokreat_user_delete_group",
        "consumer group; to take over from a running job, the group that it used",
    )
    base_url: str = key(
        "program-service-baseUrl", ..., "contribution service; http://host:port/program", pattern=r"^https?://[^\s/]+"
    )
    max_attempts: int = key("user_delete.max_attempts", 4, "calls for one event, while they may pass", ge=1)
    retry_delay_ms: int = key("user_delete.retry_delay_ms", 30_000, "pause between them, ms", ge=0)


def stores(settings: Settings) -> ContributorStores:
    """The service that the settings name."""
    pauses = (settings.retry_delay_ms / 1000,) * (settings.max_attempts - 1)
    return ContributorStores(
        contributors=ContributionService(settings.base_url, http(settings, AT_ONCE, retry_pauses=pauses)),
        calls=calls(NAME, AT_ONCE),
    )


def beam_options(settings: Settings) -> dict[str, int]:
    """A bundle is one batch."""
    return {"max_bundle_size": AT_ONCE}


def build(
    records: beam.PCollection[Record],
    settings: Settings,
    stores: ContributorStores,
    batch_size: int = AT_ONCE,
) -> dict[str, beam.PCollection[tuple[bytes | None, bytes]]]:
    """Records in; failed events out, where there is a topic for them."""
    selected = records | "Select deletions" >> beam.ParDo(SelectDeletions(NAME, SHARDS)).with_outputs(
        FAILED, main="deletions"
    )
    deleted = selected.deletions | "Delete contributors" >> beam.ParDo(
        DeleteContributors(NAME, stores, size=batch_size, gives_up=settings.failed_topic is not None)
    ).with_outputs(FAILED)

    failed = (selected[FAILED], deleted[FAILED]) | "All failed" >> beam.Flatten() | "Failed without key" >> WithoutKey()
    # without a topic they have been logged and counted, which is all that the installation asked for
    return {settings.failed_topic: failed} if settings.failed_topic else {}
