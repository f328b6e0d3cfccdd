"""The results database: all its SQL in one class."""

from warehouse.store.access_queries import AccessQueries
from warehouse.store.audit_queries import AuditQueries
from warehouse.store.drift_queries import DriftResults
from warehouse.store.erased_results import ErasedResults
from warehouse.store.feedback_queries import FeedbackQueries
from warehouse.store.lineage_queries import LineageQueries
from warehouse.store.model_queries import ModelQueries
from warehouse.store.monitoring_queries import MonitoringResults
from warehouse.store.release_queries import ReleaseQueries
from warehouse.store.result_queries import ResultQueries
from warehouse.store.retraining_queries import RetrainingQueries
from warehouse.store.review_page_queries import ReviewPageResults
from warehouse.store.review_queries import ReviewQueries
from warehouse.store.threshold_queries import ThresholdQueries
from warehouse.store.work_queries import WorkQueries


class Results(
    ModelQueries,
    ReleaseQueries,
    WorkQueries,
    ThresholdQueries,
    ResultQueries,
    ReviewQueries,
    FeedbackQueries,
    AccessQueries,
    AuditQueries,
    ErasedResults,
    ReviewPageResults,
    MonitoringResults,
    LineageQueries,
    DriftResults,
    RetrainingQueries,
):
    """Model versions, releases, training and scoring runs, scores, anomalies, episodes, summaries, reviews, keys,
    sessions, lineage, retraining, the audit log, erasures; the figures of monitoring; drift.
    """
