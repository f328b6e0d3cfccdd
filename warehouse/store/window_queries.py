"""SQL of training and scoring: window sets, blocks of windows, data spans."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

import numpy as np
import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert

from configs import contract
from configs.contract import FeatureSpec
from configs.errors import NotFoundError
from warehouse.store import tables as t
from warehouse.store.binary_copy import Array
from warehouse.store.connection import copy_out
from warehouse.store.label_queries import LabelQueries
from warehouse.store.records import DataSpan, LabelUse, SpanChoice, WindowSet
from warehouse.store.window_block import WindowBlock, block_from_columns, block_kinds

_WINDOW_SETS = sa.select(
    t.window_sets.c.window_set_id,
    t.recordings.c.recording_id,
    t.recordings.c.name.label("recording"),
    t.patients.c.split,
    t.patients.c.sex,
    t.patients.c.age_band,
    t.window_sets.c.lead_slots,
    t.window_sets.c.n_windows,
    t.window_sets.c.n_rejected,
    t.window_sets.c.windowed_s,
    t.window_sets.c.unusable_s,
    t.recordings.c.duration_s,
    t.recordings.c.start_time,
    t.recordings.c.simulated,
    t.recordings.c.site,
    t.recordings.c.device,
).select_from(t.window_sets.join(t.recordings).join(t.patients))


def window_set_rows() -> sa.Select[Any]:
    """The columns of `WindowSet`, of all recordings; other columns and conditions are the caller's."""
    return _WINDOW_SETS


class WindowQueries(LabelQueries):
    """What reads windows: training, scoring, and whoever counts them."""

    def feature_spec(self, feature_version: str) -> FeatureSpec:
        """The geometry of a version.

        Raises:
            NotFoundError: nothing was ever ingested with it.
        """
        query = sa.select(t.feature_versions.c.spec).where(t.feature_versions.c.feature_version == feature_version)
        with self.transaction() as connection:
            spec = connection.execute(query).scalar()
        if spec is None:
            raise NotFoundError(
                f"feature version {feature_version}",
                "is not in the warehouse",
                "Ingest recordings with it first: python -m warehouse.ingest SOURCE...",
            )
        return FeatureSpec.model_validate(spec)

    def window_sets(
        self,
        feature_version: str,
        *,
        splits: Sequence[str] = contract.SPLITS,
        recordings: Sequence[str] | None = None,
        after_id: int = 0,
    ) -> list[WindowSet]:
        """Window sets of the current version of every recording, in order of ingest.

        Args:
            splits: only of patients in these.
            recordings: only recordings with these names; None for all.
            after_id: only window sets with a larger id.
        """
        query = _WINDOW_SETS.where(
            t.window_sets.c.feature_version == feature_version,
            t.window_sets.c.window_set_id > after_id,
            t.recordings.c.superseded_by.is_(None),
            t.patients.c.split.in_(list(splits)),
        ).order_by(t.window_sets.c.window_set_id)
        if recordings is not None:
            query = query.where(t.recordings.c.name.in_(list(recordings)))
        with self.transaction() as connection:
            return [_window_set(row) for row in connection.execute(query).mappings()]

    def window_set_of(self, recording_id: int, feature_version: str, *, site: str | None = None) -> WindowSet:
        """The windows of one recording, whatever its version, in a geometry.

        Raises:
            NotFoundError: there are none, or they are another site's.
        """
        query = _WINDOW_SETS.where(
            t.window_sets.c.feature_version == feature_version, t.recordings.c.recording_id == recording_id
        )
        with self.transaction() as connection:
            row = connection.execute(query).mappings().one_or_none()
        if row is None or (site is not None and row["site"] != site):
            raise NotFoundError(
                f"recording {recording_id}", "does not exist in this geometry", "GET /recordings lists recordings."
            )
        return _window_set(row)

    def window_set(self, window_id: int, *, site: str | None = None) -> tuple[WindowSet, str]:
        """The window set a window is of, and its feature version.

        Raises:
            NotFoundError: there is none, or it is another site's.
        """
        query = _WINDOW_SETS.add_columns(t.window_sets.c.feature_version).where(
            t.window_sets.c.window_set_id == window_id >> t.BEAT_BITS
        )
        with self.transaction() as connection:
            row = connection.execute(query).mappings().one_or_none()
        if row is None or (site is not None and row["site"] != site):
            raise NotFoundError(
                f"window {window_id}", "does not exist", "GET /anomalies and /recordings lead to windows."
            )
        values = dict(row)
        feature_version = str(values.pop("feature_version"))
        return _window_set(values), feature_version

    def read_labelled_block(self, spec: FeatureSpec, first_id: int, stop_id: int, use: LabelUse) -> WindowBlock:
        """`read_block` with what reviewers said, as training uses it."""
        block = self.read_block(spec, first_id, stop_id)
        labels = self.labels_of(first_id, stop_id, use.until)
        aami_class = block.aami_class.copy()
        keep = np.ones(len(block), dtype=np.bool_)
        for window_id, (label, artefact) in labels.items():
            (row,) = np.searchsorted(block.window_id, [window_id])
            if row == len(block) or block.window_id[row] != window_id:
                continue
            keep[row] = not artefact and use.policy != "exclude"
            if label is not None and (use.policy == "replace" or aami_class[row] == b"U"):
                aami_class[row] = label.encode()
        return replace(block, aami_class=aami_class).select(keep)

    def read_block(self, spec: FeatureSpec, first_id: int, stop_id: int, *, well_formed: bool = False) -> WindowBlock:
        """Windows with ids in [first_id, stop_id), in order, by binary COPY.

        Args:
            well_formed: leave out windows whose bytes do not have the geometry's size (see `misshapen_windows`).

        Raises:
            ValueError: there is such a window, and it was not to be left out.
        """
        kinds = block_kinds(spec)
        size = spec.window_samples * spec.n_leads * 2
        sized = "AND octet_length(samples) = %(size)s AND octet_length(template) = %(size)s " if well_formed else ""
        query = (
            f"SELECT {', '.join(kinds)} FROM windows WHERE window_id >= %(first)s AND window_id < %(stop)s {sized}"
            "ORDER BY window_id"
        )
        with self.transaction() as connection:
            columns = copy_out(connection, query, {"first": first_id, "stop": stop_id, "size": size}, kinds)
        return block_from_columns(columns, spec)

    def window_classes(self, first_id: int, stop_id: int) -> dict[str, Array]:
        """window_id, aami_class (uint8 (n, 1), ASCII) and r_peak_s of the windows in [first_id, stop_id), by id."""
        kinds = {"window_id": "int8", "aami_class": "bytes:1", "r_peak_s": "float8"}
        query = (
            f"SELECT {', '.join(kinds)} FROM windows WHERE window_id >= %(first)s AND window_id < %(stop)s "
            "ORDER BY window_id"
        )
        with self.transaction() as connection:
            return copy_out(connection, query, {"first": first_id, "stop": stop_id}, kinds)

    def neighbours(self, window_id: int) -> tuple[int | None, int | None]:
        """Ids of the usable beats before and after in the same recording; None where there is none."""
        first = window_id >> t.BEAT_BITS << t.BEAT_BITS
        query = sa.text(
            "SELECT (SELECT max(window_id) FROM windows WHERE window_id >= :first AND window_id < :id), "
            "(SELECT min(window_id) FROM windows WHERE window_id > :id AND window_id < :stop)"
        )
        with self.transaction() as connection:
            row = connection.execute(query, {"first": first, "id": window_id, "stop": first + t.MAX_BEATS}).one()
        return row[0], row[1]

    def beats_between(self, window_set: WindowSet, start_s: float, end_s: float) -> list[tuple[int, int]]:
        """Ids, as ranges [first, stop) of at most 4096, of the windows whose R peak is in [start_s, end_s)."""
        first, stop = window_set.id_range(0, t.MAX_BEATS)
        query = sa.text(
            "SELECT min(window_id), max(window_id) + 1 FROM windows WHERE window_id >= :first AND window_id < :stop "
            "AND r_peak_s >= :start AND r_peak_s < :end"
        )
        with self.transaction() as connection:
            low, high = connection.execute(query, {"first": first, "stop": stop, "start": start_s, "end": end_s}).one()
        return [] if low is None else [(i, min(i + 4096, high)) for i in range(low, high, 4096)]

    def misshapen_windows(self, spec: FeatureSpec, first_id: int, stop_id: int) -> list[tuple[int, datetime, str]]:
        """Windows of a range whose stored bytes do not have the geometry's size: (window_id, recorded_at, detail)."""
        size = spec.window_samples * spec.n_leads * 2
        query = sa.text(
            "SELECT window_id, recorded_at, octet_length(samples) AS a, octet_length(template) AS b FROM windows "
            "WHERE window_id >= :first AND window_id < :stop "
            "AND (octet_length(samples) <> :size OR octet_length(template) <> :size) ORDER BY window_id"
        )
        with self.transaction() as connection:
            rows = connection.execute(query, {"first": first_id, "stop": stop_id, "size": size}).all()
        return [
            (r.window_id, r.recorded_at, f"{r.a} and {r.b} bytes of samples and template, not {size}") for r in rows
        ]

    def mean_heart_rate_bpm(self, window_set: WindowSet) -> float | None:
        """From the known RR intervals of a window set; None when there are none."""
        first, stop = window_set.id_range(0, t.MAX_BEATS)
        query = sa.text(
            "SELECT 60 / avg(rr_prev_s) FROM windows WHERE window_id >= :first AND window_id < :stop AND rr_prev_s > 0"
        )
        with self.transaction() as connection:
            rate = connection.execute(query, {"first": first, "stop": stop}).scalar()
        return None if rate is None else float(rate)

    def totals(self, feature_version: str) -> dict[str, int]:
        """Recordings, windows and dead-lettered beats of a geometry."""
        sets = self.window_sets(feature_version)
        return {
            "recordings": len(sets),
            "windows": sum(s.n_windows for s in sets),
            "unusable_windows": sum(s.n_rejected for s in sets),
        }

    def freeze_span(
        self,
        feature_version: str,
        max_windows: int = 0,
        reviewed: str = "ignore",
        choice: SpanChoice | None = None,
    ) -> DataSpan:
        """Numbers what a training run that starts now would see; the same data gives the same span.

        Args:
            max_windows: at most this many windows of each split are used; 0 for all. Part of the span's identity.
            reviewed: how reviewers' labels are used: ignore, or a policy of `LabelUse`. Part of it too, once there
                are such labels.
            choice: which windows; None for all of all current recordings.
        """
        sets = self.window_sets(feature_version)
        if choice is not None:
            sets = [s for s in sets if s.window_set_id in choice.ranges]
        until = 0 if reviewed == "ignore" else self.newest_label([s.window_set_id for s in sets])
        with self.transaction() as connection:
            labels, digests = _labels_of_span(connection, sets, choice)
            content: dict[str, Any] = {
                "feature_version": feature_version,
                "max_windows": max_windows,
                "window_sets": [
                    {
                        "window_set_id": s.window_set_id,
                        "recording": s.recording,
                        "split": s.split,
                        "n_windows": s.n_windows if choice is None else sum(labels.get(s.window_set_id, {}).values()),
                        "simulated": s.simulated,
                        "labels": dict(sorted(labels.get(s.window_set_id, {}).items())),
                        "labels_md5": digests.get(s.window_set_id),  # which beat has which
                        **({} if choice is None else {"ranges": [list(r) for r in choice.ranges[s.window_set_id]]}),
                    }
                    for s in sets
                ],
            }
            if choice is not None:
                content["choice"] = {"words": choice.words}
            if until:
                content["labels"] = {"policy": reviewed, "until": until}
            digest = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]
            n_windows = sum(entry["n_windows"] for entry in content["window_sets"])
            row_values = {
                "digest": digest,
                "feature_version": feature_version,
                "n_windows": n_windows,
                "content": content,
            }
            connection.execute(insert(t.data_spans).values(row_values).on_conflict_do_nothing())
            span = connection.execute(
                sa.select(t.data_spans.c.span).where(t.data_spans.c.digest == digest)
            ).scalar_one()
        return DataSpan(int(span), digest, n_windows, content)

    def windows_used(self, span: DataSpan) -> dict[int, int]:
        """How many windows of each window set a run on this span reads."""
        used = {entry["window_set_id"]: int(entry["n_windows"]) for entry in span.content["window_sets"]}
        if not span.content["max_windows"]:
            return used
        query = sa.text(
            "SELECT count(*) FROM windows WHERE window_id >= :first AND window_id < :stop"  # the first of each
        )
        with self.transaction() as connection:
            for entry in span.content["window_sets"]:
                first = entry["window_set_id"] << t.BEAT_BITS
                values = {"first": first, "stop": first + span.share(entry["split"])}
                used[entry["window_set_id"]] = int(connection.execute(query, values).scalar_one())
        return used

    def data_span(self, span: int) -> DataSpan:
        """A span that was frozen before.

        Raises:
            NotFoundError: there is none with this number.
        """
        query = sa.select(t.data_spans).where(t.data_spans.c.span == span)
        with self.transaction() as connection:
            row = connection.execute(query).one_or_none()
        if row is None:
            raise NotFoundError(
                f"data span {span}", "does not exist", "Run `python -m pipelines.train`, which makes one."
            )
        return DataSpan(row.span, row.digest, row.n_windows, row.content)


def _labels_of_span(
    connection: sa.Connection, sets: Sequence[WindowSet], choice: SpanChoice | None
) -> tuple[dict[int, dict[str, int]], dict[int, str]]:
    """Windows by class, and a digest of which beat has which, of each window set."""
    every = choice is None
    ranges = [
        s.id_range(first, stop)
        for s in sets
        for first, stop in (((0, t.MAX_BEATS),) if choice is None else choice.ranges[s.window_set_id])
    ]
    wanted: dict[str, Any] = {"bits": t.BEAT_BITS}
    if every:
        wanted["sets"] = [s.window_set_id for s in sets]
        source = "FROM windows WHERE window_id >> :bits = ANY(:sets)"
    else:
        wanted |= {"first": [first for first, _ in ranges], "stop": [stop for _, stop in ranges]}
        source = (
            "FROM unnest(CAST(:first AS bigint[]), CAST(:stop AS bigint[])) AS r(first, stop) "
            "JOIN windows ON window_id >= r.first AND window_id < r.stop"
        )
    counts = sa.text(
        f"SELECT window_id >> :bits AS window_set_id, aami_class, count(*) AS n {source} GROUP BY window_id >> :bits, 2"
    )
    digests = sa.text(
        "SELECT window_id >> :bits AS window_set_id, "
        f"md5(string_agg(CAST(aami_class AS text), '' ORDER BY window_id)) AS digest {source} "
        "GROUP BY window_id >> :bits"
    )
    labels: dict[int, dict[str, int]] = {}
    for row in connection.execute(counts, wanted):
        labels.setdefault(row.window_set_id, {})[row.aami_class] = row.n
    return labels, {row.window_set_id: row.digest for row in connection.execute(digests, wanted)}


def _window_set(row: Any) -> WindowSet:
    return WindowSet(**{**row, "lead_slots": tuple(row["lead_slots"])})
