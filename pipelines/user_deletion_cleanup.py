"""Removes what is left of deleted users.

The userorg service deletes an account and says so; for this job there are then two paths, by what the service's user
read answers. 400, the account is deleted: the user's membership is marked as left, the cached profile is removed, and
the managed (child) accounts are blanked. 200, nobody has deleted the account: besides that, its credentials, look-ups
and external ids are removed, and its own row is blanked.

Reads   {env}.delete.user
Writes  an AUDIT event for each account that this job has deleted, where kafka.output.audit.topic says so
Tables  user, user_lookup, usr_external_identity, user_organisation of sunbird
Redis   user:<id> (database 12), on the server of redis-meta.* and on that of redis.*
Asks    the userorg service, for the user; Keycloak, to remove the credentials

The user's row is blanked last, as the mark that all is done: an event may come again at any time, and does what is
left. One thing gets lost when a worker dies between that mark and Kafka: the AUDIT event. What each event found and
changed is logged, without names, and counted: <store>-found-count, <store>-changed-count. With dry_run it is only
found. A Keycloak that does not do its part holds up nothing; keycloak-failed-count and the AUDIT event tell.

Stays: the columns of the user's row that the service keeps (profiledetails, loginid and others), look-ups that belong
to somebody else, the profile in the search index (run the userorg service's data sync for the user), and all that
other jobs keep: enrolments, certificates, course batches.

Differs from the Scala job: look-ups are found by what the table holds, the cache that is filled is cleared, children
too; isdeleted is set; a run cut short goes on; a service that is away loses no deletion; no event stops the job.
"""

from __future__ import annotations

from collections.abc import Callable

import apache_beam as beam
from pydantic import SecretStr

from io_connectors.http import Http
from io_connectors.keycloak import SECONDS, Keycloak
from io_connectors.services import AccountService
from pipelines.channels import WithoutKey
from pipelines.clock import epoch_millis, new_uuid
from pipelines.settings import CassandraSettings, DryRunSettings, HttpSettings, KafkaSettings, MetaRedisSettings, key
from pipelines.stores import calls, cassandra, http, meta_redis, plain, redis
from transforms.clean_up_users import AUDIT, CleanUpUsers, DeletionStores, SelectDeletions, UserTables
from transforms.decode import Record

NAME = "user-deletion-cleanup"

# This many workers could share the work.
SHARDS = 1_000
# Events that are cleaned up together: no more than that have no AUDIT event yet.
AT_ONCE = 50


class Settings(KafkaSettings, CassandraSettings, MetaRedisSettings, HttpSettings, DryRunSettings):
    """spec: user-deletion-cleanup §5"""

    kafka_input_topic: str = key("kafka.input.topic", "{env}.delete.user", "deleted users")
    kafka_group_id: str = key(
        "kafka.groupId",
        "{env}-delete-user-group",
        "consumer group; to take over from a running job, the group that it used",
    )
    audit_topic: str = key(
        "kafka.output.audit.topic", "", "AUDIT events, such as {env}.telemetry.raw; empty: none are written"
    )

    userorg_base_path: str = key("service.userorg.basePath", ..., "userorg service; http://host:port", min_length=1)
    user_read_api: str = key("user_read_api", "/private/user/v1/read/", "path of its user read", min_length=1)
    lms_base_path: str | None = key("service.lms.basePath", None, "without effect on this job")
    batch_search_api: str | None = key("batch_search_api", None, "without effect on this job")

    keyspace: str = key("user.keyspace", "sunbird", "keyspace of the four tables")
    user_table: str = key("user.table", "user", "users")
    lookup_table: str = key("user.lookup.table", "user_lookup", "users by e-mail, phone, user name and external id")
    external_id_table: str = key("user.externalIdentity.table", "usr_external_identity", "external ids of users")
    membership_table: str = key("user.org.table", "user_organisation", "organisations of users")
    profile_database: int = key("user.redis.store", 12, "Redis database of the cached profiles", ge=0)

    sso_url: str = key("sunbird_sso_url", "", "Keycloak, as https://host/auth/; empty: no credentials are removed")
    sso_realm: str = key("sunbird_sso_realm", "", "its realm")
    sso_client_id: str = key("sunbird_sso_client_id", "", "client that may manage the realm's users")
    sso_client_secret: SecretStr | None = key("sunbird_sso_client_secret", None, "its secret")
    sso_username: str = key("sunbird_sso_username", "", "without effect: the client's secret is all that is sent")
    sso_password: SecretStr | None = key("sunbird_sso_password", None, "without effect, likewise")
    sso_pool_size: int = key("sunbird_sso_pool_size", 2, "connections to Keycloak that are kept", ge=1, le=512)
    federation_provider_id: str = key(
        "sunbird_keycloak_user_federation_provider_id", "", "middle part of a user's id in Keycloak: f:<this>:<user>"
    )

    calls_at_once: int = key("task.calls.at.once", 16, "users that a worker cleans up side by side", ge=1, le=512)


def stores(settings: Settings) -> DeletionStores:
    """The stores and services that the settings name."""
    profiles = (meta_redis(settings, settings.profile_database), redis(settings, settings.profile_database))
    return DeletionStores(
        tables=cassandra(settings),
        profiles=tuple({(server.host, server.port): server for server in profiles}.values()),
        accounts=AccountService(
            settings.userorg_base_path, settings.user_read_api, http(settings, settings.calls_at_once)
        ),
        identities=Keycloak(
            settings.sso_url,
            settings.sso_realm,
            settings.sso_client_id,
            plain(settings.sso_client_secret),
            settings.federation_provider_id,
            Http(SECONDS, SECONDS, pool=settings.sso_pool_size),
        ),
        calls=calls(NAME, settings.calls_at_once),
    )


def beam_options(settings: Settings) -> dict[str, int]:
    """A bundle is one batch: no later batch that fails takes an earlier one's AUDIT events with it."""
    return {"max_bundle_size": AT_ONCE}


def build(
    records: beam.PCollection[Record],
    settings: Settings,
    stores: DeletionStores,
    batch_size: int = AT_ONCE,
    clock: Callable[[], int] = epoch_millis,
    new_id: Callable[[], str] = new_uuid,
) -> dict[str, beam.PCollection[tuple[bytes | None, bytes]]]:
    """Records in; for each output topic the (key, value) records to write."""
    cleaned = (
        records
        | "Select deletions" >> beam.ParDo(SelectDeletions(NAME, SHARDS))
        | "Clean up users"
        >> beam.ParDo(
            CleanUpUsers(
                NAME,
                stores,
                UserTables(
                    user=f"{settings.keyspace}.{settings.user_table}",
                    lookup=f"{settings.keyspace}.{settings.lookup_table}",
                    external_id=f"{settings.keyspace}.{settings.external_id_table}",
                    membership=f"{settings.keyspace}.{settings.membership_table}",
                ),
                size=batch_size,
                dry_run=settings.dry_run,
                clock=clock,
                new_id=new_id,
            )
        ).with_outputs(AUDIT)
    )
    if not settings.audit_topic:
        return {}
    return {settings.audit_topic: cleaned[AUDIT] | "Audit without key" >> WithoutKey()}
