"""Metrics: their names in one place, so that dashboards and alerts can be checked against them."""

from typing import Literal, get_args

from prometheus_client import Counter, Gauge, Histogram

MetricName = Literal[
    "bigdata_requests_total",
    "bigdata_request_seconds",
    "bigdata_rate_limit_decisions_total",
    "bigdata_result_cache_total",
    "bigdata_spool_bytes",
    "bigdata_spool_dropped_total",
    "bigdata_spool_oldest_seconds",
    "bigdata_spool_refused_total",
    "bigdata_credit_calls_total",
    "bigdata_credit_operations_total",
    "bigdata_credit_queue_operations",
    "bigdata_holds_open",
    "bigdata_hold_oldest_seconds",
    "bigdata_holds_expired_total",
    "bigdata_outbox_events_total",
    "bigdata_reconcile_faults",
    "bigdata_uploads_by_state",
    "bigdata_uploads_total",
    "bigdata_upload_rows_total",
    "bigdata_chunks_total",
    "bigdata_rows_sent_again_total",
    "bigdata_ingest_jobs_total",
    "bigdata_inbox_files_total",
    "bigdata_record_rows_total",
    "bigdata_dead_letter_budget_spent",
    "bigdata_audit_rows_total",
    "bigdata_dead_letters_total",
    "bigdata_consumer_lag",
    "bigdata_consumer_behind_seconds",
]
NAMES: tuple[str, ...] = get_args(MetricName)
_SECONDS = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30)


def counter(name: MetricName, what: str, *labels: str) -> Counter:
    return Counter(name, what, labels)


def gauge(name: MetricName, what: str, *labels: str) -> Gauge:
    return Gauge(name, what, labels)


def histogram(name: MetricName, what: str, *labels: str) -> Histogram:
    return Histogram(name, what, labels, buckets=_SECONDS)
