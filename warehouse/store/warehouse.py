"""The warehouse database: all its SQL in one class."""

from warehouse.store.ingest_queries import IngestQueries
from warehouse.store.recording_queries import RecordingQueries
from warehouse.store.window_queries import WindowQueries


class Warehouse(IngestQueries, WindowQueries, RecordingQueries):
    """Recordings and their windows, patients and splits, data spans."""
