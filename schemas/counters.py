"""The counters of every job, in the order of its spec's §7. The names are what dashboards ask for (spec: core §11)."""

__all__ = ["COUNTERS"]

COUNTERS: dict[str, tuple[str, ...]] = {
    "activity-aggregate-updater": (
        "total-events-count",
        "skipped-events-count",
        "batch-enrolment-update-count",
        "processed-enrolment-count",
        "db-read-count",
        "db-update-count",
        "cache-hit-count",
        "cache-miss-count",
        "enrolment-complete-count",
        "cert-issue-events-count",
        "failed-events-count",
        "retired-consumption-events-count",
    ),
    "collection-cert-pre-processor": (
        "total-events-count",
        "success-events-count",
        "skipped-event-count",
        "failed-events-count",
        "db-read-count",
        "cache-hit-cout",
        "db-update-count",
    ),
    "collection-certificate-generator": (
        "total-events-count",
        "success-events-count",
        "skipped-event-count",
        "failed-events-count",
        "enrollment-db-read-count",
        "db-update-user-enrollment-count",
        "db-course-batch-read-count",
        "notified-user-count",
        "skipped-notify-user-count",
        "user-feed-count",
    ),
    "legacy-certificate-migrator": (
        "total-events-count",
        "success-events-count",
        "failed-events-count",
        "skipped-event-count",
        "enrollment-db-read-count",
        "db-update-user-enrollment-count",
    ),
    "relation-cache-updater": (
        "total-events-count",
        "success-events-count",
        "skipped-event-count",
        "failed-events-count",
        "db-read-count",
        "cache-write-count",
    ),
}
