"""The warehouse database: all its SQL in one class."""

from warehouse.store.drift_queries import DriftWarehouse
from warehouse.store.erased_warehouse import ErasedWarehouse
from warehouse.store.ingest_queries import IngestQueries
from warehouse.store.lineage_queries import SpanQueries
from warehouse.store.monitoring_queries import MonitoringWarehouse
from warehouse.store.recording_queries import RecordingQueries
from warehouse.store.retraining_queries import RetrainingWarehouse
from warehouse.store.review_page_queries import ReviewPageWindows
from warehouse.store.strip_queries import StripQueries
from warehouse.store.upload_queries import UploadQueries


class Warehouse(
    IngestQueries,
    StripQueries,
    RecordingQueries,
    UploadQueries,
    ReviewPageWindows,
    ErasedWarehouse,
    MonitoringWarehouse,
    SpanQueries,
    DriftWarehouse,
    RetrainingWarehouse,
):
    """Recordings, their windows and signal, patients and splits, labels, data spans, uploads; monitoring's figures."""
