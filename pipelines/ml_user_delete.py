"""Takes a deleted user's personal data out of the documents of the ML (manage learn) services.

The ML services keep copies of users' profiles in their MongoDB. When a user was deleted, this job puts `Deleted User`
in place of the first name and removes last name, birth date, e-mail addresses and phone numbers. No document is
deleted, and ids of owners stay.

Reads    {env}.delete.user (every event with an edata.userId; the action is not looked at)
Writes   nothing
MongoDB  observations, surveySubmissions, observationSubmissions, projects, programUsers, solutions

What stays, as with the Scala job: userName, userLocations, profileUserTypes, external ids, and names that somebody
wrote into texts; `ml.user.delete.extra_fields` names more members of userProfile to remove. Child profiles of the user
have ids of their own, and get events of their own.

An event may come again: all updates give the same documents again. A user's events are handled in turn, users side by
side.

Differs from the Scala job: a document whose profile or license is no object is left as it is and stops neither the
other documents nor the job; each update has a time limit; the log has no personal data.
"""

from __future__ import annotations

import apache_beam as beam
from pydantic import field_validator

from pipelines.settings import KafkaSettings, MongoSettings, key
from pipelines.stores import calls, mongo
from transforms.decode import Record
from transforms.remove_ml_users import MlStores, RemoveMlUsers, SelectDeletedUsers

NAME = "ml-user-delete"

# This many workers could share the users.
SHARDS = 1_000


class Settings(KafkaSettings, MongoSettings):
    """spec: ml-user-delete §5"""

    kafka_input_topic: str = key("kafka.input.topic", "{env}.delete.user", "deleted users")
    kafka_group_id: str = key(
        "kafka.groupId",
        "{env}-ml-user-delete-group",
        "consumer group; to take over from a running job, the group that it used",
    )
    extra_fields: list[str] = key(
        "ml.user.delete.extra_fields", [], "members of userProfile that are removed too, such as userName"
    )
    calls_at_once: int = key("task.calls.at.once", 16, "users that a worker handles side by side", ge=1, le=512)

    @field_validator("extra_fields")
    @classmethod
    def _must_be_names_of_members(cls, names: list[str]) -> list[str]:
        for name in names:
            if not name or name.startswith("$") or "." in name or "\0" in name or name == "firstName":
                raise ValueError("must hold names of members of userProfile, without dots, and not firstName")
        return names


def stores(settings: Settings) -> MlStores:
    """The store that the settings name."""
    return MlStores(mongo(settings, settings.calls_at_once), calls(NAME, settings.calls_at_once))


def beam_options(settings: Settings) -> dict[str, int]:
    """Nothing beyond the defaults."""
    return {}


def build(
    records: beam.PCollection[Record],
    settings: Settings,
    stores: MlStores,
    batch_size: int = 500,
) -> dict[str, beam.PCollection[tuple[bytes | None, bytes]]]:
    """Records in; no topic out."""
    users = records | "Select deleted users" >> beam.ParDo(SelectDeletedUsers(NAME, SHARDS))
    _ = users | "Remove users" >> beam.ParDo(
        RemoveMlUsers(NAME, stores, size=batch_size, extra_fields=settings.extra_fields)
    )
    return {}
