"""Sends the notifications that the notification service hands over: e-mails, SMS, and pushes to devices.

The text is finished, and the recipients are addresses, phone numbers or registration tokens; nothing is looked up. What
could not be sent is put back on the topic that it came from, once; after the second try it is given up.

Reads   {env}.lms.notification
Writes  the same topic (events that are put back, iteration 2); kafka.output.failed.topic, where one is set
Sends   by SMTP; through MSG91; through Firebase Cloud Messaging: HTTP v1 with fcm_service_account (at the host of
        sunbird_fcm_url), the legacy protocol, which Google has switched off, without

What is promised. No retry sends twice: within one try, and by putting back, only what surely was not sent is sent again
(no connection, a refusal, "later"). When the answer to a complete message is missing (time-out, 408, 502, 504), nobody
knows; it is given up, with an error in the log, unless notification.retry.unknown is set. Only a crash sends again:
what was sent since the last completed checkpoint (task.checkpointing.interval), for a restart reads those records
again; that mail then has the same Message-ID, if its event had a mid. None is lost without a word: a notification that
is given up is counted (skipped-event-count) and an error in the log names its mid; its text and recipients are kept
only where kafka.output.failed.topic is set, which holds personal data then, and from where replay sends it again. The
log never holds addresses, phone numbers or texts. The limits of dead letters (dead-letters.*) do not hold here: a job
that stops sends again, at each restart, what it had sent since the checkpoint.

A worker sends task.calls.at.once notifications side by side and keeps its connections. A provider that does not answer
costs a send notification.timeout.seconds, at worst four times that, and a checkpoint waits no longer than one send.

Where a key is blank, that of the same name with sunbird_ in front counts. Those come from the environment only where a
configuration file says so, as deploy/config/site.yaml does: sunbird_mail_server_host: ${?sunbird_mail_server_host}.

Differs from the Scala job: pushes carry their payload and reach topics; bad events, bad numbers and unknown answers of
FCM stop nothing; every wait ends; nothing personal and no key is logged; a mail that a server refuses to one recipient
goes to none, as before, and what may have been sent is not sent again.
"""

from __future__ import annotations

import apache_beam as beam
from pydantic import SecretStr, field_validator

from io_connectors.msg91 import Msg91
from io_connectors.pace import Pace
from io_connectors.smtp import PORT, Smtp
from pipelines.channels import WithoutKey
from pipelines.notification_senders import PAUSES, provider_http, pushes
from pipelines.settings import KafkaSettings, key
from pipelines.stores import calls, plain
from transforms.decode import Record
from transforms.send_notifications import GIVEN_UP, RETRY, SelectNotifications, Senders, SendNotifications

NAME = "notification-job"

# This many workers could share the work.
SHARDS = 1_000
# What may be sent in so many seconds goes through together: a checkpoint waits for no more than that.
SECONDS_OF_A_BATCH = 10


class Settings(KafkaSettings):
    """spec: notification-job §5"""

    kafka_input_topic: str = key("kafka.input.topic", "{env}.lms.notification", "notifications, and those put back")
    kafka_group_id: str = key(
        "kafka.groupId",
        "{env}.lms.notification.group",
        "consumer group; to take over from a running job, the group that it used, deployed as {env}-lms-notification",
    )
    failed_topic: str = key(
        "kafka.output.failed.topic", "", "dead letters, with all personal data that the events hold; blank: none"
    )

    mail_host: str = key("mail_server_host", "", "mail server")
    mail_port: str = key("mail_server_port", "", f"its port; blank here and below: {PORT}", pattern=r"^\d{0,5}$")
    mail_from: str = key("mail_server_from_email", "", "address that mails come from")
    mail_username: str = key("mail_server_username", "", "user, for a server that offers AUTH")
    mail_password: SecretStr | None = key("mail_server_password", None, "password of that user")
    mail_starttls: bool = key("mail_server_starttls", False, "send nothing without STARTTLS and a valid certificate")
    sms_key: SecretStr | None = key("sms_auth_key", None, "MSG91: authkey of the account")
    sms_sender: str = key("sms_default_sender", "", "MSG91: name that SMS come from, 6 characters")
    fcm_key: SecretStr | None = key("fcm_account_key", None, "legacy FCM: the whole Authorization, key=…")
    fcm_account: SecretStr | None = key(
        "fcm_service_account", None, "FCM HTTP v1: JSON of a service account, or its path as the workers see it"
    )

    other_mail_host: str = key("sunbird_mail_server_host", "", "counts where mail_server_host is blank")
    other_mail_port: str = key("sunbird_mail_server_port", "", "likewise", pattern=r"^\d{0,5}$")
    other_mail_from: str = key("sunbird_mail_server_from_email", "support@open-sunbird.org", "likewise")
    other_mail_username: str = key("sunbird_mail_server_username", "", "likewise")
    other_mail_password: SecretStr | None = key("sunbird_mail_server_password", None, "likewise")
    other_sms_key: SecretStr | None = key("sunbird_msg_91_auth", None, "counts where sms_auth_key is blank")
    other_sms_sender: str = key(
        "sunbird_notification_msg_default_sender", "TesSun", "counts where sms_default_sender is blank"
    )
    sms_base: str = key("sunbird_msg_91_baseurl", "http://api.msg91.com/", "MSG91: address", min_length=1)
    sms_path: str = key("sunbird_msg_91_post_url", "api/v2/sendsms", "MSG91: path")
    sms_route: str = key("sunbird_msg_91_route", "4", "MSG91: route; 4 is transactional")
    sms_country: str = key("sunbird_notification_default_country_code", "91", "MSG91: country")
    fcm_url: str = key("sunbird_fcm_url", "https://fcm.googleapis.com/fcm/send", "FCM: address", min_length=1)

    timeout: int = key("notification.timeout.seconds", 30, "longest wait for a connection, or an answer", ge=1)
    per_second: float | None = key(
        "notification.sends.per.second",
        None,
        "most e-mails, and most SMS, and most pushes, that a worker begins to send in a second; not set: no limit",
        gt=0,
    )
    retry_unknown: bool = key(
        "notification.retry.unknown", False, "put back also what may have been sent; it may then arrive twice"
    )
    calls_at_once: int = key("task.calls.at.once", 16, "notifications that a worker sends side by side", ge=1, le=512)

    @field_validator("mail_port", "other_mail_port")
    @classmethod
    def _a_port(cls, port: str) -> str:
        if port and not 1 <= int(port) <= 65535:
            raise ValueError("must be from 1 to 65535")
        return port

    @field_validator("mail_from", "other_mail_from")
    @classmethod
    def _one_line(cls, sender: str) -> str:
        if sender.splitlines() != ([sender] if sender else []):
            raise ValueError("must be one line")
        return sender


def stores(settings: Settings) -> Senders:
    """Those who send, as the settings name them."""
    http = provider_http(settings.timeout, settings.calls_at_once)
    return Senders(
        mails=Smtp(
            _given(settings.mail_host, settings.other_mail_host),
            int(_given(settings.mail_port, settings.other_mail_port) or PORT),
            _given(settings.mail_from, settings.other_mail_from),
            _given(settings.mail_username, settings.other_mail_username),
            _given(plain(settings.mail_password), plain(settings.other_mail_password)),
            settings.mail_starttls,
            settings.timeout,
            PAUSES,
            Pace("mails", settings.per_second),
        ),
        text_messages=Msg91(
            f"{settings.sms_base.rstrip('/')}/{settings.sms_path.lstrip('/')}",
            _given(plain(settings.sms_key), plain(settings.other_sms_key)),
            _given(settings.sms_sender, settings.other_sms_sender),
            settings.sms_route,
            settings.sms_country,
            http,
            Pace("text messages", settings.per_second),
        ),
        pushes=pushes(
            settings.fcm_url, settings.fcm_key, settings.fcm_account, http, Pace("pushes", settings.per_second)
        ),
        calls=calls(NAME, settings.calls_at_once),
    )


def _given(first: str | None, other: str | None) -> str:
    return first if first and first.strip() else other or ""


def batch_size(settings: Settings) -> int:
    """Notifications that are sent together: what a crash in between sends again is no more than that."""
    in_time = settings.calls_at_once if settings.per_second is None else int(settings.per_second * SECONDS_OF_A_BATCH)
    return max(1, min(settings.calls_at_once, in_time))


def beam_options(settings: Settings) -> dict[str, int]:
    """A bundle is one batch."""
    return {"max_bundle_size": batch_size(settings)}


def build(
    records: beam.PCollection[Record], settings: Settings, stores: Senders
) -> dict[str, beam.PCollection[tuple[bytes | None, bytes]]]:
    """Records in; for each output topic the (key, value) records to write: the input topic is one of them."""
    keeps = bool(settings.failed_topic)
    given_up = (GIVEN_UP,) if keeps else ()
    selected = records | "Select notifications" >> beam.ParDo(
        SelectNotifications(NAME, SHARDS, keep_failed=keeps)
    ).with_outputs(*given_up, main="notifications")

    sent = selected.notifications | "Send notifications" >> beam.ParDo(
        SendNotifications(
            NAME, stores, size=batch_size(settings), keep_failed=keeps, retry_unknown=settings.retry_unknown
        )
    ).with_outputs(RETRY, *given_up)

    outputs = {settings.kafka_input_topic: sent[RETRY] | "Put back without key" >> WithoutKey()}
    if keeps:
        failed = (selected[GIVEN_UP], sent[GIVEN_UP]) | "All failed" >> beam.Flatten()
        outputs[settings.failed_topic] = failed | "Failed without key" >> WithoutKey()
    return outputs
