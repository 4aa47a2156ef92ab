"""Keeps in Redis what lies where in every published collection.

The publish pipeline announces each collection that was published. This job reads the collection's tree once and
stores what the progress jobs ask for all the time: the leaf nodes of the course and of each unit, which nodes are
optional, in which collections each content lies; and for telemetry the metadata of each unit.

Reads   {env}.content.postpublish.request (events of action post-publish-process or relation-cache-update, about
        collections)
Writes  no topic
Tables  content_hierarchy of {env}_hierarchy_store, read only
Redis   <root>:<collection>:leafnodes, <root>:<collection>:optionalnodes, <root>:<content>:ancestors (database 10);
        <unit> (database 5)

A tree that can not be read is logged, counted in failed-events-count, and leaves the old keys as they are. To cache
a collection again, send an event of action relation-cache-update for it; running it again is always harmless.

Differs from the Scala job: a set is replaced in one step, so no reader ever finds it empty; keys that a new version of
a collection does not have any more are removed; and an event or a tree that can not be read never stops the job.
"""

from __future__ import annotations

import apache_beam as beam

from pipelines.settings import CassandraSettings, DpRedisSettings, KafkaSettings, key
from pipelines.stores import cassandra, dp_redis, redis
from transforms.decode import Record
from transforms.update_relation_cache import RelationCacheStores, SelectRoots, UpdateRelationCache

NAME = "relation-cache-updater"

# Events of one collection are handled in turn; this many workers could share the work.
SHARDS = 1_000


class Settings(KafkaSettings, CassandraSettings, DpRedisSettings):
    """spec: relation-cache-updater §5"""

    kafka_input_topic: str = key("kafka.input.topic", "{env}.content.postpublish.request", "post publish events")
    kafka_group_id: str = key(
        "kafka.groupId",
        "{env}-relation-cache-updater-group",
        "consumer group; to take over from a running job, the group that it used",
    )

    keyspace: str = key("lms-cassandra.keyspace", "{env}_hierarchy_store", "keyspace of the published trees")
    table: str = key("lms-cassandra.table", "content_hierarchy", "table of the published trees")

    relation_cache_database: int = key("redis.database.index", 10, "Redis database of the relation cache", ge=0)
    units_database: int = key("dp-redis.database.index", 5, "Redis database of the unit metadata", ge=0)


def stores(settings: Settings) -> RelationCacheStores:
    """The stores that the settings name."""
    return RelationCacheStores(
        trees=cassandra(settings),
        relations=redis(settings, settings.relation_cache_database),
        units=dp_redis(settings, settings.units_database),
    )


def beam_options(settings: Settings) -> dict[str, int]:
    """Nothing beyond the defaults."""
    return {}


def build(
    records: beam.PCollection[Record],
    settings: Settings,
    stores: RelationCacheStores,
    trees_at_once: int = 16,
) -> dict[str, beam.PCollection[tuple[bytes | None, bytes]]]:
    """Records in; no topic out. ``trees_at_once`` trees, of some megabytes each, are read together."""
    roots = records | "Select roots" >> beam.ParDo(SelectRoots(NAME, SHARDS)).with_output_types(tuple[bytes, bytes])

    _ = roots | "Update relation cache" >> beam.ParDo(
        UpdateRelationCache(NAME, stores, f"{settings.keyspace}.{settings.table}", size=trees_at_once)
    )
    return {}
