"""Carries usage metrics of imported contents over to the originals in the sourcing repository.

Contents that were made in the sourcing repository (coKreat) and imported are rated and played elsewhere. The graph
database tells of every change of a node; when a metric of an imported content changes, this job writes the new value to
the original, so that its contributors see how it does.

Reads   {env}.learning.graph.events (every change of every node; most events are skipped at once)
Writes  no topic; with kafka.failed.topic: failed events
Asks    the content service, and the content service of the sourcing repository, which it also updates

Events of one content are handled in order, one at a time. Values keep the types that they have in the event; a value
that became null is not carried over. What the sourcing repository answers with one of the statuses of
sourcing.update.api.response.error.code is skipped. 5xx, 429 and no answer are asked for again
(metrics_transformer.max_attempts, .retry_delay_ms). After that, and at once after any other answer, the event has
failed: it is logged, counted, and goes to kafka.failed.topic. Where none is set, what may pass ends the run instead,
and Flink begins again.

The update may be repeated: it sets absolute values. It changes the sourcing graph, whose events go to another cluster;
do not run the job on a cluster that both repositories share.

Differs from the Scala job: texts are sent as JSON (there a changed name or description lost the numbers beside it), no
update without values is sent, and no event stops the job.
"""

from __future__ import annotations

import apache_beam as beam

from io_connectors.cokreat_services import ContentRepository
from pipelines.channels import WithoutKey
from pipelines.settings import HttpSettings, OptionalFailedTopicSettings, key
from pipelines.stores import calls, http
from transforms.dead_letter import FAILED
from transforms.decode import Record
from transforms.transform_metrics import MetricsStores, SelectMetrics, TransformMetrics

NAME = "metrics-data-transformer"

# This many workers could share the work.
SHARDS = 1_000
# Contents that are waited for side by side, and events that are taken up together.
AT_ONCE = 64

METRICS = ["me_totalRatingsCount", "me_averageRating", "me_totalTimeSpentInSec", "me_totalPlaySessionCount"]
_ADDRESS = r"^https?://[^\s/]+"


class Settings(OptionalFailedTopicSettings, HttpSettings):
    """spec: metrics-data-transformer §5"""

    kafka_input_topic: str = key("kafka.input.topic", "{env}.learning.graph.events", "changes of nodes")
    kafka_group_id: str = key(
        "kafka.groupId",
        "{env}-metrics-data-transformer-group",
        "consumer group; to take over from a running job, the group that it used",
    )
    content_base_path: str = key("service.content.basePath", ..., "content service; http://host:port", pattern=_ADDRESS)
    sourcing_base_path: str = key(
        "service.sourcing.content.basePath", ..., "content service of the sourcing repository", pattern=_ADDRESS
    )
    read_path: str = key("content_read_api", "/content/v3/read", "path of both, under which contents are read")
    update_path: str = key("content_update_api", "/content/v4/system/update", "path under which they are updated")
    metrics: list[str] = key("data.metrics", METRICS, "properties that are carried over", min_length=1)
    left_alone: list[str] = key(
        "sourcing.update.api.response.error.code", ["404"], "statuses of updates that are skipped, not failed"
    )
    max_attempts: int = key("metrics_transformer.max_attempts", 4, "tries of each call, while they may pass", ge=1)
    retry_delay_ms: int = key("metrics_transformer.retry_delay_ms", 30_000, "pause between them, ms", ge=0)


def stores(settings: Settings) -> MetricsStores:
    """The services that the settings name."""
    pauses = (settings.retry_delay_ms / 1000,) * (settings.max_attempts - 1)
    client = http(settings, AT_ONCE, retry_pauses=pauses)
    return MetricsStores(
        consumption=ContentRepository(
            "content service",
            "service.content.basePath",
            settings.content_base_path,
            read_path=settings.read_path,
            http=client,
        ),
        sourcing=ContentRepository(
            "sourcing content service",
            "service.sourcing.content.basePath",
            settings.sourcing_base_path,
            settings.read_path,
            settings.update_path,
            frozenset(settings.left_alone),
            client,
        ),
        calls=calls(NAME, AT_ONCE),
    )


def beam_options(settings: Settings) -> dict[str, int]:
    """Nothing beyond the defaults."""
    return {}


def build(
    records: beam.PCollection[Record],
    settings: Settings,
    stores: MetricsStores,
    batch_size: int = AT_ONCE,
) -> dict[str, beam.PCollection[tuple[bytes | None, bytes]]]:
    """Records in; failed events out, where there is a topic for them."""
    selected = records | "Select metrics" >> beam.ParDo(SelectMetrics(NAME, SHARDS, settings.metrics)).with_outputs(
        FAILED, main="changes"
    )
    transformed = selected.changes | "Transform metrics" >> beam.ParDo(
        TransformMetrics(NAME, stores, settings.metrics, size=batch_size, gives_up=settings.failed_topic is not None)
    ).with_outputs(FAILED)

    failed = (
        (selected[FAILED], transformed[FAILED]) | "All failed" >> beam.Flatten() | "Failed without key" >> WithoutKey()
    )
    # without a topic they have been logged and counted, which is all that the installation asked for
    return {settings.failed_topic: failed} if settings.failed_topic else {}
