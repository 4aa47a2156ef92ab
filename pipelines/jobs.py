"""The jobs that run, by the names of their specs. Nothing of Beam is loaded until one of them is asked for."""

from __future__ import annotations

import difflib
import importlib
from types import ModuleType

from pipelines.settings import UsageError

JOBS: dict[str, str] = {
    "activity-aggregate-updater": "pipelines.activity_aggregate_updater",
    "assessment-aggregator": "pipelines.assessment_aggregator",
    "auto-creator-v2": "pipelines.auto_creator_v2",
    "cokreat-user-delete": "pipelines.cokreat_user_delete",
    "collection-cert-pre-processor": "pipelines.collection_cert_pre_processor",
    "collection-certificate-generator": "pipelines.collection_certificate_generator",
    "content-auto-creator": "pipelines.content_auto_creator",
    "enrolment-reconciliation": "pipelines.enrolment_reconciliation",
    "legacy-certificate-migrator": "pipelines.legacy_certificate_migrator",
    "merge-user-courses": "pipelines.merge_user_courses",
    "metrics-data-transformer": "pipelines.metrics_data_transformer",
    "ml-transfer-ownership": "pipelines.ml_transfer_ownership",
    "ml-user-delete": "pipelines.ml_user_delete",
    "notification-job": "pipelines.notification_job",
    "program-user-info": "pipelines.program_user_info",
    "relation-cache-updater": "pipelines.relation_cache_updater",
    "user-cache-updater-2.0": "pipelines.user_cache_updater",
    "user-deletion-cleanup": "pipelines.user_deletion_cleanup",
    "user-ownership-transfer": "pipelines.user_ownership_transfer",
}

SUMMARIES: dict[str, str] = {
    "activity-aggregate-updater": "consumed contents to progress of course and units, completion, certificate requests",
    "assessment-aggregator": "answers to scored attempts, best scores of each assessment, certificate requests",
    "auto-creator-v2": "questions and question sets of another repository into this one, with all their data",
    "cokreat-user-delete": "deleted users to the coKreat portal, which forgets them too",
    "collection-cert-pre-processor": "who gets a certificate: criteria of enrolment, score and user, generate events",
    "collection-certificate-generator": "issues certificates, with Sunbird RC or as files, and tells the learners",
    "content-auto-creator": "contents of another repository or a bulk upload into this one, with their files",
    "enrolment-reconciliation": "counts a learner's progress in a course again, from what the tables hold",
    "legacy-certificate-migrator": "certificates of the time before Sunbird RC into RC, stage by stage",
    "merge-user-courses": "one account's consumption, aggregates and enrolments to another, of the same person",
    "metrics-data-transformer": "ratings and plays of imported contents to their originals in the sourcing repository",
    "ml-transfer-ownership": "a user's solutions, programs and roles in the ML services to another user",
    "ml-user-delete": "deleted users out of the documents of the ML services",
    "notification-job": "sends e-mails, SMS and pushes; what could not be sent is put back once",
    "program-user-info": "users who joined a program, to rows with their profile for the program's report",
    "relation-cache-updater": "published courses to leaf nodes, optional nodes and ancestors in Redis",
    "user-cache-updater-2.0": "what the user service says of its users, to profiles in Redis for the reports",
    "user-deletion-cleanup": "what is left of deleted users: credentials, look-ups, profiles, child accounts",
    "user-ownership-transfer": "course batches of one user to another, as creator and as mentor",
}


def load(name: str) -> ModuleType:
    """The module of the job ``name``. Raises ``UsageError`` that lists the names when there is no such job."""
    if name not in JOBS:
        near = difflib.get_close_matches(name, JOBS, n=1)
        hint = f" Did you mean {near[0]}?" if near else ""
        raise UsageError(f"{name}: no such job.{hint} The jobs: {', '.join(JOBS)}.")
    return importlib.import_module(JOBS[name])
