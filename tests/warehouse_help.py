"""Short ways to put recordings into a warehouse, and to look at all that is in it."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from configs.settings import Settings
from warehouse.ingest import IngestReport, ingest
from warehouse.signal.readers import find_sources
from warehouse.store import Stores
from warehouse.store.records import WindowSet
from warehouse.store.warehouse import Warehouse

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)

_WINDOW_COLUMNS = (
    "r_peak_s, samples, lead_mask, rr_prev_s, rr_next_s, rr_median_s, rr_p90_s, rr_spread, template, template_beats, "
    "quality, symbol, aami_class, label_source"
)
_CONTENT = f"""
SELECT r.name, r.version, s.feature_version, p.split, p.sex, p.age_band, r.checksum, r.leads, r.duration_s,
    r.superseded_by IS NULL AS current, r.annotated, r.simulated, s.lead_slots, s.r_peak_source, s.n_windows,
    s.n_rejected, s.windowed_s, s.unusable_s, s.suspect_inverted,
    (SELECT count(*) FROM windows w WHERE w.window_id >> 24 = s.window_set_id) AS window_rows,
    (SELECT md5(string_agg(md5(ROW(window_id & 16777215, {_WINDOW_COLUMNS})::text), '' ORDER BY window_id))
        FROM windows w WHERE w.window_id >> 24 = s.window_set_id) AS window_md5,
    (SELECT array_agg(ROW(ordinal, start_s, end_s, lead, reason)::text ORDER BY ordinal)
        FROM unusable_spans u WHERE u.window_set_id = s.window_set_id) AS spans,
    (SELECT array_agg(ROW(beat_index, r_peak_s, symbol, reason, detail)::text ORDER BY beat_index)
        FROM dead_letters d WHERE d.window_set_id = s.window_set_id) AS rejected
FROM recordings r JOIN patients p USING (patient_id) LEFT JOIN window_sets s USING (recording_id)
ORDER BY r.name, r.checksum, s.feature_version
"""
_FAULTS = {
    "window sets with another number of windows than they say": """
        SELECT s.window_set_id FROM window_sets s LEFT JOIN windows w ON w.window_id >> 24 = s.window_set_id
        GROUP BY s.window_set_id HAVING count(w.window_id) <> s.n_windows""",
    "window sets with another number of rejected beats than they say": """
        SELECT s.window_set_id FROM window_sets s LEFT JOIN dead_letters d USING (window_set_id)
        GROUP BY s.window_set_id HAVING count(d.dead_letter_id) <> s.n_rejected""",
    "window sets whose time is not all windowed or unusable": """
        SELECT s.window_set_id, r.duration_s, s.windowed_s, s.unusable_s FROM window_sets s JOIN recordings r
        USING (recording_id) WHERE abs(s.windowed_s + s.unusable_s - r.duration_s) > 1e-6 OR s.windowed_s < 0""",
    "window sets whose unusable time is not that of their spans": """
        SELECT s.window_set_id, s.unusable_s FROM window_sets s LEFT JOIN unusable_spans u
        ON u.window_set_id = s.window_set_id AND u.lead IS NULL GROUP BY s.window_set_id
        HAVING abs(coalesce(sum(u.end_s - u.start_s), 0) - s.unusable_s) > 1e-6""",
    "windows of no window set": """
        SELECT window_id FROM windows WHERE window_id >> 24 NOT IN (SELECT window_set_id FROM window_sets)""",
    "recordings without a window set": """
        SELECT name FROM recordings WHERE recording_id NOT IN (SELECT recording_id FROM window_sets)""",
    "sources with more or fewer than one current version": """
        SELECT source_key FROM recordings GROUP BY source_key
        HAVING count(*) FILTER (WHERE superseded_by IS NULL) <> 1""",
    "windows at another time than start and R peak say": """
        SELECT w.window_id FROM windows w JOIN window_sets s ON w.window_id >> 24 = s.window_set_id JOIN recordings r
        USING (recording_id) WHERE abs(extract(epoch FROM w.recorded_at - r.start_time) - w.r_peak_s) > 2e-6""",
}


def put_in(stores: Stores, settings: Settings, *paths: Path, **options: Any) -> IngestReport:
    """Ingests files and folders; options as `warehouse.ingest.ingest` takes them."""
    sources, failures = find_sources([str(path) for path in paths])
    return ingest(sources, settings, stores, failures=failures, **{"now": NOW, **options})


def sets_of(stores: Stores, settings: Settings) -> dict[str, WindowSet]:
    """Current window sets in the settings' geometry, by the recording's name."""
    return {s.recording: s for s in stores.warehouse.window_sets(settings.features.digest)}


def rows(stores: Stores, query: str) -> list[Any]:
    """What a query on the warehouse gives."""
    with stores.warehouse.transaction() as connection:
        return list(connection.execute(sa.text(query)).all())


def content(warehouse: Warehouse) -> list[dict[str, Any]]:
    """All a warehouse holds of its recordings, without numbers and times that differ from one ingest to the next."""
    with warehouse.transaction() as connection:
        return [dict(row) for row in connection.execute(sa.text(_CONTENT)).mappings()]


def check_whole(warehouse: Warehouse) -> None:
    """Asserts that no recording is in by half, and that every second and every beat is accounted for."""
    with warehouse.transaction() as connection:
        found = {fault: connection.execute(sa.text(query)).all() for fault, query in _FAULTS.items()}
    assert {fault: wrong for fault, wrong in found.items() if wrong} == {}
