"""Recordings as drift sees them: features of their windows, out of both databases."""

from collections.abc import Iterator, Sequence

import numpy as np

from configs.contract import FeatureSpec
from monitoring.drift_encoder import Encoder
from monitoring.drift_features import (
    LATENT_PREFIX,
    FloatArray,
    Key,
    Stream,
    removed_values,
    rhythm_values,
    score_values,
    signal_values,
)
from warehouse.store import Stores
from warehouse.store.binary_copy import Array
from warehouse.store.drift_queries import LiveRecording
from warehouse.store.records import WindowSet
from warehouse.store.window_block import WindowBlock

_BLOCK_WINDOWS = 4096


def read_stream(
    stores: Stores,
    spec: FeatureSpec,
    recording: LiveRecording,
    *,
    windows: int,
    encoder: Encoder | None,
    scores: tuple[Array, Array] | None,
    threshold: float,
) -> Stream:
    """The features of a recording's newest windows.

    Args:
        windows: how many, at most.
        encoder: to the model's latent space; None where the version has none.
        scores: window ids and scores; windows that are missing there have none. None: there are no scores at all.
        threshold: of the model.
    """
    window_set = recording.window_set
    parts, ids, times = [], [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
    removed = _read_removed(stores, window_set)
    for block in _newest_blocks(stores, spec, window_set, windows):
        values = signal_values(block.samples, block.lead_mask, window_set.lead_slots, spec)
        values |= rhythm_values(block.rr)
        values |= removed_values(removed, block.r_peak_s, block.lead_mask, window_set.lead_slots)
        values[Key("quality")] = block.quality.astype(np.float64)
        if encoder is not None:
            latent = encoder(block.model_inputs())
            values |= {Key(f"{LATENT_PREFIX}{i + 1}"): latent[:, i] for i in range(latent.shape[1])}
        parts.append(values)
        ids.append(block.window_id)
        times.append(block.recorded_at_us)
    window_id = np.concatenate(ids)
    joined: dict[Key, FloatArray] = {key: np.concatenate([part[key] for part in parts]) for key in (parts or [{}])[0]}
    if scores is not None and len(window_id):
        found = np.full(len(window_id), np.nan)
        rows = np.searchsorted(window_id, scores[0])
        inside = (rows < len(window_id)) & (window_id[np.minimum(rows, len(window_id) - 1)] == scores[0])
        found[rows[inside]] = scores[1][inside]
        joined |= score_values(found, threshold)
    return Stream(
        recording_id=window_set.recording_id,
        recording=window_set.recording,
        patient=str(recording.patient),
        site=window_set.site,
        device=window_set.device,
        window_id=window_id,
        recorded_at_us=np.concatenate(times),
        values=joined,
        slots={lead: slot for slot, lead in enumerate(window_set.lead_slots) if lead},
    )


def _newest_blocks(stores: Stores, spec: FeatureSpec, window_set: WindowSet, windows: int) -> Iterator[WindowBlock]:
    last = window_set.n_beats
    for start in range(max(0, last - windows), last, _BLOCK_WINDOWS):
        first, stop = window_set.id_range(start, min(start + _BLOCK_WINDOWS, last))
        block = stores.warehouse.read_block(spec, first, stop, well_formed=True)
        if len(block):
            yield block


def _read_removed(stores: Stores, window_set: WindowSet) -> Array | None:
    """int16 (seconds, leads in use, 2); None where it is not known."""
    n_leads = sum(1 for lead in window_set.lead_slots if lead)
    chunks = stores.warehouse.read_removed(window_set.window_set_id, n_leads) if n_leads else {}
    return np.concatenate(list(chunks.values())) if chunks else None


def typical_beats(
    stores: Stores, spec: FeatureSpec, recordings: Sequence[LiveRecording], each: int = 40
) -> dict[str, tuple[tuple[float, ...], ...]]:
    """Quantiles 0.1, 0.5 and 0.9 of the beats of each lead, millivolts; of a recording at most `each` windows."""
    beats: dict[str, list[Array]] = {}
    for recording in recordings:
        window_set = recording.window_set
        middle = max(0, window_set.n_beats // 2 - each // 2)
        first, stop = window_set.id_range(middle, min(middle + each, window_set.n_beats))
        block = stores.warehouse.read_block(spec, first, stop, well_formed=True)
        for slot, lead in enumerate(window_set.lead_slots):
            usable = block.lead_mask[:, slot]
            if lead and usable.any():
                beats.setdefault(lead, []).append(block.samples[usable, :, slot] / 1000.0)
    return {
        lead: tuple(
            tuple(np.round(row, 4).tolist()) for row in np.quantile(np.concatenate(parts), [0.1, 0.5, 0.9], axis=0)
        )
        for lead, parts in beats.items()
    }
