"""The data sheet of what a version was made from (after Gebru et al., Datasheets for Datasets, CACM 64(12), 2021).

Counts and kinds only: no recording, patient or site is named, so that it can be shown to everybody who may see models.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from warehouse.store.records import DataSpan


def build_datasheet(
    span: DataSpan,
    sources: Sequence[Mapping[str, Any]],
    losses: Mapping[str, Mapping[str, float]],
    windows_used: Mapping[int, int],
    feature_spec: Mapping[str, Any],
) -> dict[str, Any]:
    """Puts a data sheet together; everything in it is JSON.

    Args:
        span: what the run saw.
        sources: `Warehouse.span_sources`.
        losses: `Warehouse.span_losses`.
        windows_used: how many windows of each window set the run read.
        feature_spec: geometry of the windows.
    """
    labels: dict[str, Counter[str]] = {}
    for entry in span.content["window_sets"]:
        labels.setdefault(entry["split"], Counter()).update(entry["labels"])
    starts = sorted(s["start_time"] for s in sources if s["start_time_known"])
    return {
        "motivation": {
            "purpose": "Training, calibrating and testing a detector of unusual heartbeats.",
            "made_by": "Whoever runs this platform, from recordings they ingested. Nobody was asked for data for it.",
        },
        "composition": {
            "instances": "One heartbeat each: a window of the ECG around its R peak, with RR intervals and template.",
            "data_span": span.span,
            "data_span_digest": span.digest,
            "windows": sum(windows_used.values()),
            "windows_there": span.n_windows,
            "recordings": len(sources),
            "patients": len({(s["site"], s["pseudonym"]) for s in sources}),
            "sites": len({s["site"] for s in sources}),
            "hours": round(sum(s["duration_s"] for s in sources) / 3600, 2),
            "simulated_recordings": sum(s["simulated"] for s in sources),
            "sample": _sample(span),
            "missing": "Beats and seconds without a window are under losses; leads that were not recorded are masked.",
            "relations": "Windows of one recording, and recordings of one patient, are alike: splits are by patient.",
            "confidential": "Health data under pseudonyms. Names, dates of birth and record numbers never enter.",
        },
        "by_split": {
            split: {
                "patients": len({(s["site"], s["pseudonym"]) for s in sources if s["split"] == split}),
                "recordings": sum(s["split"] == split for s in sources),
                "windows": sum(windows_used.get(s["window_set_id"], 0) for s in sources if s["split"] == split),
                **{f"class {label}": n for label, n in sorted(labels.get(split, {}).items())},
            }
            for split in ("train", "calibration", "test")
        },
        "subpopulations": {
            "sex": _count(s["sex"] for s in _patients(sources)),
            "age_band": _count(s["age_band"] for s in _patients(sources)),
            "device": _count(s["device"] or "unknown" for s in sources),
            "leads": _count(",".join(s["leads"]) for s in sources),
            "sampling_rate_hz": _count(f"{s['sampling_rate_hz']:g}" for s in sources),
        },
        "collection": {
            "formats": _count(s["source_format"] for s in sources),
            "recorded": [starts[0].isoformat(), starts[-1].isoformat()] if starts else "not known",
            "recordings_without_a_start_time": sum(not s["start_time_known"] for s in sources),
            "ingested": [min(times).isoformat(), max(times).isoformat()]
            if (times := [s["ingested_at"] for s in sources])
            else "nothing",
            "consent_and_review": "Not known to the platform: fill in what your data protection office recorded.",
        },
        "preprocessing": {
            "r_peaks_from": _count(s["r_peak_source"] for s in sources),
            "geometry": dict(feature_spec),
            "leads_that_look_inverted": sum(len(s["suspect_inverted"]) for s in sources),
            "raw_data": "The band-passed signal stays in the warehouse; source files stay where they were.",
        },
        "losses": {
            "beats": sum(s["n_rejected"] for s in sources),
            "beats_by_reason": dict(losses["beats"]),
            "seconds": round(sum(s["unusable_s"] for s in sources), 1),
            "seconds_by_reason": dict(losses["seconds"]),
        },
        "labels": {
            "reference": "Annotations that came with recordings, by AAMI class; U: nobody labelled the beat.",
            "annotated_recordings": sum(s["annotated"] for s in sources),
            "reviewers_labels": span.content.get("labels") or "not read",
        },
        "uses": {
            "used_for": "This model version and its evaluation.",
            "not_for": "Prevalence of arrhythmias: recordings are whatever was ingested, no sample of a population.",
        },
        "distribution": {"handed_on": "No. It does not leave the databases; a version carries counts, not data."},
        "maintenance": {
            "versions": "The same data has the same span number and digest; changed files become new versions.",
            "removal": "GET /patients/{patient}/models tells which versions saw a patient.",
        },
    }


def _sample(span: DataSpan) -> str:
    if (choice := span.content.get("choice")) is not None:
        return str(choice["words"])
    if limit := span.content["max_windows"]:
        return f"The first windows of each recording, at most {limit} a split."
    return "All windows of all current recordings of the geometry."


def _patients(sources: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    return list({(s["site"], s["pseudonym"]): s for s in sources}.values())


def _count(values: Iterable[str]) -> dict[str, int]:
    return dict(sorted(Counter(values).items()))
