"""Hands over what a user owned in the ML (manage learn) services to another user.

An administrator transfers one named asset, or everything, mostly of a user who was deleted. This job does it for
solutions (author and shown names), programs (owner) and the programs that both users have by role.

Reads    {env}.user.ownership.transfer (assets solution and program, and events without asset: everything)
Writes   nothing
MongoDB  solutions, programs, userExtension; userRoles, read only

One solution: its author and shown names. One program: its owner; the new owner gets the roles of the event that exist,
and the program in those roles in which the old one had it; the old one loses it in all. Everything: all solutions and
programs; without a document of the new owner, it is made with a copy of the old one's roles, else programs are added
role by role; roles that the new owner has not got stay with the old one.

An event may come again at any point: what was given is not given again, and nothing is taken before it was given. Roles
are replaced only where they still are what was read, so that nothing that the services write meanwhile is lost.
Transfers that share a user are handled in turn, on one worker, the others side by side.

Differs from the Scala job: half an asset does not transfer everything; a program comes into the roles in which it was,
not into all; no role's programs are lost; every write is waited for and checked; what is odd in a document stops
neither the rest nor the job; nothing is handed over from a user to the same one.
"""

from __future__ import annotations

import apache_beam as beam

from pipelines.settings import KafkaSettings, MongoSettings, key
from pipelines.stores import calls, mongo
from transforms.decode import Record
from transforms.remove_ml_users import MlStores
from transforms.transfer_ml_ownership import SelectMlTransfers, TransferMlOwnership

NAME = "ml-transfer-ownership"


class Settings(KafkaSettings, MongoSettings):
    """spec: ml-transfer-ownership §5"""

    kafka_input_topic: str = key("kafka.input.topic", "{env}.user.ownership.transfer", "transfers")
    kafka_group_id: str = key(
        "kafka.groupId",
        "{env}-ml-transfer-ownership-group",
        "consumer group; to take over from a running job, the group that it used",
    )
    calls_at_once: int = key("task.calls.at.once", 16, "transfers that are handled side by side", ge=1, le=512)


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
    transfers = records | "Select transfers" >> beam.ParDo(SelectMlTransfers(NAME))
    _ = transfers | "Transfer ownership" >> beam.ParDo(TransferMlOwnership(NAME, stores, size=batch_size))
    return {}
