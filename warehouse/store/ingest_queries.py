"""SQL of ingest: patients and their splits, recordings with all their windows, partitions."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert

from configs import contract
from configs.contract import FeatureSpec
from configs.errors import SourceError
from warehouse.signal.ecg import RecordingHeader, UnusableSpan, WindowChunk
from warehouse.store import tables as t
from warehouse.store.binary_copy import to_microseconds
from warehouse.store.connection import Repository, copy_in
from warehouse.store.notifications import WINDOWS_CHANNEL
from warehouse.store.records import Ingested, Patient
from warehouse.store.signal_queries import SignalWriter
from warehouse.store.window_block import lead_mask_to_bits

_PARTITION_LOCK = 0x454347_01
_PATIENT_LOCK = 0x454347_02
_PARTITIONED = ("windows", "signal_chunks")


class IngestQueries(Repository):
    """What ingest asks of the warehouse, and writes into it."""

    def ensure_feature_version(self, spec: FeatureSpec) -> str:
        """Registers the geometry if it is new; returns its version."""
        row = {"feature_version": spec.digest, "name": spec.name, "spec": spec.model_dump(mode="json")}
        with self.transaction() as connection:
            connection.execute(insert(t.feature_versions).values(row).on_conflict_do_nothing())
        return spec.digest

    def ensure_patients(
        self,
        patients: Sequence[tuple[str, str, str]],
        shares: Mapping[str, float],
        forced: Mapping[str, str] | None = None,
        *,
        site: str = t.DEFAULT_SITE,
    ) -> dict[str, Patient]:
        """Registers patients, in the order given, and fixes the split of the new ones.

        A new patient goes to the split that is furthest below its share, so that few patients are spread well and
        none ever moves when data is added.

        Args:
            patients: (pseudonym, sex, age band), one or more times each.
            shares: split to the share of patients it aims at.
            forced: pseudonym to split, for the new patients whose split the caller decides.
            site: whose patients they are.
        """
        known: dict[str, Patient] = {}
        with self.transaction() as connection:
            connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_PATIENT_LOCK)))
            rows = connection.execute(sa.text("SELECT split, count(*) FROM patients GROUP BY split"))
            counts = {row[0]: row[1] for row in rows}
            for pseudonym, sex, age_band in patients:
                if pseudonym in known:
                    continue
                found = connection.execute(
                    sa.select(t.patients.c.patient_id, t.patients.c.split).where(
                        t.patients.c.site == site, t.patients.c.pseudonym == pseudonym
                    )
                ).one_or_none()
                if found is None:
                    split = (forced or {}).get(pseudonym) or _neediest_split(counts, shares)
                    counts[split] = counts.get(split, 0) + 1
                    row = {"site": site, "pseudonym": pseudonym, "sex": sex, "age_band": age_band, "split": split}
                    created = connection.execute(insert(t.patients).values(row).returning(t.patients.c.patient_id))
                    known[pseudonym] = Patient(int(created.scalar_one()), pseudonym, split, site)
                else:
                    known[pseudonym] = Patient(found.patient_id, pseudonym, found.split, site)
        return known

    def has_windows(self, checksum: str, feature_version: str, *, site: str = t.DEFAULT_SITE) -> bool:
        """Whether this exact content is in at this site, in this geometry."""
        query = (
            sa.select(sa.literal(True))
            .select_from(t.recordings.join(t.window_sets))
            .where(
                t.recordings.c.site == site,
                t.recordings.c.checksum == checksum,
                t.window_sets.c.feature_version == feature_version,
            )
        )
        with self.transaction() as connection:
            return bool(connection.execute(query).scalar())

    def recordings_of(self, checksum: str, site: str) -> list[int]:
        """recording_id of a content, if it is in at a site."""
        query = sa.select(t.recordings.c.recording_id).where(
            t.recordings.c.site == site, t.recordings.c.checksum == checksum
        )
        with self.transaction() as connection:
            return list(connection.execute(query).scalars())

    def make_current(self, checksum: str, source_key: str, *, site: str = t.DEFAULT_SITE) -> None:
        """Makes the version of a source that has this content the current one: a file may change back."""
        with self.transaction() as connection:
            self._lock(connection, source_key)
            _make_current(connection, site, checksum, source_key)

    def write_recording(
        self,
        header: RecordingHeader,
        *,
        patient: Patient,
        source_key: str,
        spec: FeatureSpec,
        lead_slots: Sequence[str],
        r_peak_source: str,
        label_source: str,
        suspect_inverted: Callable[[], Sequence[str]],
        now: datetime,
        chunks: Iterable[WindowChunk],
    ) -> Ingested:
        """Writes a recording with all its windows in one transaction: all of it, or nothing.

        Args:
            source_key: what its versions share; a row with the same key and other content is superseded.
            lead_slots: lead name a model input slot, "" for an empty one.
            label_source: where labels of labelled beats come from.
            suspect_inverted: asked once all chunks are read: leads that look upside down.
            now: stands in for an unknown start time.
            chunks: in time order; read as they are written, so memory stays flat.

        Returns:
            What was added; `unchanged` when it was in already, maybe since a moment ago by another process.

        Raises:
            SourceError: it has more beats than a window id can number, or ends beyond the calendar.
        """
        start = self._known_start(patient.site, header.checksum) or header.start_time or now.replace(microsecond=0)
        self._ensure_partitions(header, start)
        with self.transaction() as connection:
            self._lock(connection, source_key)
            self._lock(connection, header.checksum)
            recording_id = self._insert_recording(connection, header, patient, source_key, start, label_source)
            if self._has_window_set(connection, recording_id, spec.digest):
                return Ingested(recording_id, 0, 0, 0.0, unchanged=True)
            row = {
                "recording_id": recording_id,
                "feature_version": spec.digest,
                "lead_slots": [_storable(lead) for lead in lead_slots],
                "r_peak_source": r_peak_source,
                "n_windows": 0,
                "n_rejected": 0,
                "windowed_s": 0.0,
                "unusable_s": 0.0,
                "suspect_inverted": [],
            }
            window_set_id = int(
                connection.execute(
                    insert(t.window_sets).values(row).returning(t.window_sets.c.window_set_id)
                ).scalar_one()
            )
            n_windows = n_rejected = 0
            spans: list[UnusableSpan] = []
            signal = SignalWriter(connection, window_set_id, start, sampling_rate_hz=spec.sampling_rate_hz)
            for chunk in chunks:
                if chunk.signal is not None:
                    signal.add(chunk.signal, chunk.removed)
                self._copy_windows(connection, chunk, window_set_id, start, label_source, header.name)
                if chunk.rejected:
                    connection.execute(
                        insert(t.dead_letters),
                        [
                            {
                                "window_set_id": window_set_id,
                                "beat_index": beat.beat_index,
                                "r_peak_s": beat.r_peak_s,
                                "symbol": beat.symbol,
                                "reason": str(beat.reason),
                                "detail": beat.detail,
                            }
                            for beat in chunk.rejected
                        ],
                    )
                n_windows += len(chunk.windows)
                n_rejected += len(chunk.rejected)
                spans += chunk.unusable
            signal.close()
            self._insert_spans(connection, window_set_id, spans)
            unusable_s = sum(span.end_s - span.start_s for span in spans if span.lead is None)
            connection.execute(
                t.window_sets.update()
                .where(t.window_sets.c.window_set_id == window_set_id)
                .values(
                    n_windows=n_windows,
                    n_rejected=n_rejected,
                    unusable_s=unusable_s,
                    windowed_s=max(0.0, header.duration_s - unusable_s),
                    suspect_inverted=list(suspect_inverted()),
                )
            )
            connection.execute(sa.text(f"NOTIFY {WINDOWS_CHANNEL}"))  # heard when this is committed
        return Ingested(recording_id, n_windows, n_rejected, unusable_s)

    def _insert_spans(self, connection: sa.Connection, window_set_id: int, spans: Sequence[UnusableSpan]) -> None:
        rows = [
            {
                "window_set_id": window_set_id,
                "ordinal": ordinal,
                "start_s": span.start_s,
                "end_s": span.end_s,
                "lead": None if span.lead is None else _storable(span.lead),
                "reason": str(span.reason),
            }
            for ordinal, span in enumerate(sorted(spans, key=lambda span: (span.start_s, span.lead or "")))
        ]
        if rows:
            connection.execute(insert(t.unusable_spans), rows)

    def add_failed_source(self, source: str, detail: str) -> None:
        """Notes a file that could not be read."""
        row = {"source": _storable(source), "reason": "source", "detail": _storable(detail)}
        with self.transaction() as connection:
            connection.execute(insert(t.dead_letters).values(row))

    def _lock(self, connection: sa.Connection, key: str) -> None:
        """Lets one transaction at a time write what `key` names: a source, or a content."""
        connection.execute(sa.select(sa.func.pg_advisory_xact_lock(sa.func.hashtextextended(f"recording {key}", 0))))

    def _known_start(self, site: str, checksum: str) -> datetime | None:
        """When a recording that is in already started: its windows in another geometry have the same times."""
        query = sa.select(t.recordings.c.start_time).where(
            t.recordings.c.site == site, t.recordings.c.checksum == checksum
        )
        with self.transaction() as connection:
            return connection.execute(query).scalar()

    def _has_window_set(self, connection: sa.Connection, recording_id: int, feature_version: str) -> bool:
        query = sa.select(sa.literal(True)).where(
            t.window_sets.c.recording_id == recording_id, t.window_sets.c.feature_version == feature_version
        )
        return bool(connection.execute(query).scalar())

    def _insert_recording(
        self,
        connection: sa.Connection,
        header: RecordingHeader,
        patient: Patient,
        source_key: str,
        start: datetime,
        label_source: str,
    ) -> int:
        same = connection.execute(
            sa.select(t.recordings.c.recording_id).where(
                t.recordings.c.site == patient.site, t.recordings.c.checksum == header.checksum
            )
        ).scalar()
        if same is not None:  # another geometry of a recording that is in already
            _make_current(connection, patient.site, header.checksum, source_key)
            return int(same)
        of_source = (t.recordings.c.site == patient.site, t.recordings.c.source_key == source_key)
        latest = connection.execute(sa.select(sa.func.max(t.recordings.c.version)).where(*of_source)).scalar()
        row = {
            "site": patient.site,
            "patient_id": patient.patient_id,
            "name": _storable(header.name),
            "source_format": header.source_format,
            "source_key": source_key,
            "version": (latest or 0) + 1,
            "checksum": header.checksum,
            "device": _storable(header.device),
            "start_time": start,
            "start_time_known": header.start_time is not None,
            "sampling_rate_hz": header.sampling_rate_hz,
            "leads": [_storable(lead) for lead in header.leads],
            "duration_s": header.duration_s,
            "annotated": label_source != "none",
            "simulated": header.simulated,
        }
        created = connection.execute(insert(t.recordings).values(row).returning(t.recordings.c.recording_id))
        recording_id = int(created.scalar_one())
        _supersede_by(connection, patient.site, recording_id, source_key)
        return recording_id

    def _copy_windows(
        self,
        connection: sa.Connection,
        chunk: WindowChunk,
        window_set_id: int,
        start: datetime,
        label_source: str,
        name: str,
    ) -> None:
        w = chunk.windows
        if len(w) == 0:
            return
        if int(w.beat_index[-1]) >= t.MAX_BEATS:
            raise SourceError(name, f"has more than {t.MAX_BEATS} beats", "Split the recording.")
        size = w.samples[0].nbytes
        sources = np.where(w.aami_class == "U", b"none", label_source.encode()).astype("S9")
        copy_in(
            connection,
            "windows",
            [
                ("window_id", "int8", (window_set_id << t.BEAT_BITS) + w.beat_index),
                ("recorded_at", "timestamptz", to_microseconds(start) + np.rint(w.r_peak_s * 1e6).astype(np.int64)),
                ("r_peak_s", "float8", w.r_peak_s),
                ("samples", f"bytes:{size}", w.samples.astype("<i2", copy=False)),
                ("lead_mask", "int2", lead_mask_to_bits(w.lead_mask)),
                *((column, "float4", w.rr[:, i]) for i, column in enumerate(contract.RR_COLUMNS)),
                ("template", f"bytes:{size}", w.template.astype("<i2", copy=False)),
                ("template_beats", "int2", w.template_beats),
                ("quality", "float4", w.quality),
                ("symbol", "bytes:4", _padded(w.symbol, 4)),
                ("aami_class", "bytes:1", _padded(w.aami_class, 1)),
                ("label_source", "bytes:9", _padded(sources.astype("U9"), 9)),
            ],
        )

    def _ensure_partitions(self, header: RecordingHeader, start: datetime) -> None:
        """Creates the monthly partitions that a recording needs, in a transaction of its own."""
        month = start.astimezone(UTC).replace(day=1, hour=0, minute=0, second=0, microsecond=0)
        wanted: list[tuple[str, datetime, datetime]] = []
        try:
            end = start + timedelta(seconds=header.duration_s + 1)
            while month <= end:
                following = (month + timedelta(days=32)).replace(day=1)
                wanted += [(f"{table}_y{month.year:04}m{month:%m}", month, following) for table in _PARTITIONED]
                month = following
        except OverflowError as error:
            problem = f"starts on {start:%Y-%m-%d} and ends beyond the calendar"
            raise SourceError(header.name, problem, "Correct the date in its header.") from error
        with self.transaction() as connection:
            names = [name for name, _, _ in wanted]
            present = set(
                connection.execute(
                    sa.text("SELECT relname FROM pg_class WHERE relname = ANY(:names)"), {"names": names}
                ).scalars()
            )
            if set(names) <= present:
                return
            connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_PARTITION_LOCK)))
            for name, first, following in wanted:
                parent = name[: -len("_y0000m00")]
                connection.execute(sa.select(sa.func.make_partition(parent, first, following)))


def _make_current(connection: sa.Connection, site: str, checksum: str, source_key: str) -> None:
    is_superseded = t.recordings.c.superseded_by.is_not(None)
    query = sa.select(t.recordings.c.recording_id).where(
        t.recordings.c.site == site,
        t.recordings.c.checksum == checksum,
        t.recordings.c.source_key == source_key,
        is_superseded,
    )
    recording_id = connection.execute(query).scalar()
    if recording_id is not None:
        _supersede_by(connection, site, recording_id, source_key)


def _supersede_by(connection: sa.Connection, site: str, recording_id: int, source_key: str) -> None:
    """Makes a recording the current version of its source."""
    c = t.recordings.c
    others = (c.site == site, c.source_key == source_key, c.superseded_by.is_(None), c.recording_id != recording_id)
    connection.execute(t.recordings.update().where(*others).values(superseded_by=recording_id))
    connection.execute(t.recordings.update().where(c.recording_id == recording_id).values(superseded_by=None))


def _storable(text: str) -> str:
    """Text without what PostgreSQL cannot hold: bytes of a file's name that are no UTF-8, and NUL."""
    return text.encode("utf-8", "replace").decode().replace("\0", "")


def _neediest_split(counts: Mapping[str, int], shares: Mapping[str, float]) -> str:
    total = sum(counts.values()) + 1
    return max(shares, key=lambda split: shares[split] * total - counts.get(split, 0))


def _padded(values: np.ndarray[Any, np.dtype[np.str_]], width: int) -> np.ndarray[Any, np.dtype[np.bytes_]]:
    """Text as char(width) on the wire: padded with blanks."""
    return np.char.ljust(values.astype(f"U{width}"), width).astype(f"S{width}")
