"""Keeps the profile of every user in Redis, for reports and telemetry.

The user service says by AUDIT events that it created, changed or deleted a user. This job then asks it for the user
and stores names, root organisation, locations, school, framework and types as texts in one hash. Events of app and
portal tell how a user signed up and in which role; they change these two fields only.

Reads   {env}.telemetry.audit (events about users; most of the topic is about something else)
Writes  no topic
Tables  none
Redis   user:<user id>, a hash that does not expire (redis-meta, database 12)
Asks    the user service for users, up to task.calls.at.once side by side; the taxonomy service for the categories of
        a framework, remembered for a day

E-mail and phone are stored as the user service encrypts them, which only its private read tells. All fields are
written again with every event of the user service; those of a school, a location or a framework that the user has no
more go, in the same step. An event that comes again changes nothing. To store a user again, let the user service send
an update.

A user whom the service does not know is logged, counted in skipped-message-count and stops nothing. An account that is
blocked keeps what is stored: removal is what user-deletion-cleanup does.

Differs from the Scala job: events of one user are handled in order, their changes are never seen half done, and an
unknown user, odd cdata or a profile with gaps never stop the job.
"""

from __future__ import annotations

import apache_beam as beam

from io_connectors.read_apis import FrameworkReadApi, UserReadApi
from pipelines.settings import HttpSettings, KafkaSettings, MetaRedisSettings, key
from pipelines.stores import calls, http, meta_redis
from transforms.decode import Record
from transforms.update_user_cache import SelectUserChanges, UpdateUserCache, UserCacheStores
from transforms.user_cache import SignIn

NAME = "user-cache-updater-2.0"

# This many workers could share the work.
SHARDS = 1_000


class Settings(KafkaSettings, MetaRedisSettings, HttpSettings):
    """spec: user-cache-updater §5"""

    kafka_input_topic: str = key("kafka.input.topic", "{env}.telemetry.audit", "AUDIT events")
    kafka_group_id: str = key(
        "kafka.groupId",
        "{env}-user-cache-updater-group",
        "consumer group; to take over from a running job, the group that it used",
    )

    profiles_database: int = key("redis-meta.database.userstore.id", 12, "Redis database of the profiles", ge=0)
    profiles_expiry: int | None = key(
        "redis-meta.database.key.expiry.seconds", 3600, "not used: the profiles do not expire"
    )
    removable: tuple[str, ...] = key(
        "user.redis.removeable-fields",
        ("state", "district", "block", "cluster", "schooludisecode", "schoolname"),
        "fields that go when the user service does not tell them any more",
    )

    producer: str = key(
        "regd.user.producer.pid", "learner-service", "context.pdata.pid of the events that the user service sends"
    )
    self_types: tuple[str, ...] = key(
        "user.self.signin.types", ("google", "self"), "types of sign-up of users who signed themselves in"
    )
    self_signed_in: str = key("user.self.signin.key", "Self-Signed-In", "what is stored for these")
    validated_types: tuple[str, ...] = key("user.validated.types", ("sso",), "types of sign-up of validated users")
    validated: str = key("user.valid.key", "Validated", "what is stored for these")

    users_base_path: str = key("service.userorg.basePath", ..., "user service, http://host:port", min_length=1)
    user_read_path: str = key(
        "user_read_api",
        "/private/user/v1/read/",
        "where it gives a user; the id is appended. Only the private read tells e-mail and phone",
        seed_names=["user-read.api.url"],
    )
    user_read_fields: str = key(
        "user.read.url.fields", "locations,organisations", "what it is asked to add to the user"
    )
    user_read_errors: tuple[str, ...] = key(
        "user.read.api.error", ("CLIENT_ERROR",), "response codes with which it says that an account is blocked"
    )
    taxonomy_base_path: str = key("service.taxonomy.basePath", ..., "taxonomy service, http://host:port", min_length=1)
    framework_read_path: str = key(
        "framework_read_api", "/api/framework/v1/read/", "where it gives a framework; the id is appended"
    )
    calls_at_once: int = key("task.calls.at.once", 64, "users that a worker reads side by side", ge=1, le=512)


def stores(settings: Settings) -> UserCacheStores:
    """The store and the services that the settings name."""
    client = http(settings, settings.calls_at_once)
    return UserCacheStores(
        profiles=meta_redis(settings, settings.profiles_database),
        users=UserReadApi(
            settings.users_base_path,
            settings.user_read_path,
            settings.user_read_fields,
            settings.user_read_errors,
            client,
        ),
        frameworks=FrameworkReadApi(settings.taxonomy_base_path, settings.framework_read_path, client),
        calls=calls(NAME, settings.calls_at_once),
    )


def beam_options(settings: Settings) -> dict[str, int]:
    """Nothing beyond the defaults."""
    return {}


def build(
    records: beam.PCollection[Record],
    settings: Settings,
    stores: UserCacheStores,
    batch_size: int = 500,
) -> dict[str, beam.PCollection[tuple[bytes | None, bytes]]]:
    """Records in; no topic out."""
    changes = records | "Select user changes" >> beam.ParDo(
        SelectUserChanges(
            NAME,
            SHARDS,
            producer=settings.producer,
            sign_in=SignIn(settings.self_types, settings.self_signed_in, settings.validated_types, settings.validated),
        )
    )

    _ = changes | "Update user cache" >> beam.ParDo(
        UpdateUserCache(NAME, stores, size=batch_size, removable=settings.removable)
    )
    return {}
