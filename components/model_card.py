"""The model card that travels with a version (after Mitchell et al., Model Cards for Model Reporting, FAT* 2019)."""

from collections.abc import Mapping
from typing import Any

CARD_FILE = "model_card.json"  # in the version's assets.extra

_INTENDED_USE = (
    "Decision support: ranks heartbeats for review by a person, by how unlike normal beats they are. "
    "Not a diagnosis, and not a monitor that alarms."
)
_LIMITS = (
    "Anomalous means unlike the normal beats of the training recordings: rare normal variants score high too.",
    "The false alarm rate was set on held-out patients; a new patient's own rate differs, sometimes much.",
    "Stretches without a detectable beat (asystole, ventricular flutter or fibrillation) give no window and no score; "
    "they are reported as unusable with reason no_beat.",
    "A lead that no training recording had in its slot is ignored by training and adds noise to the score.",
    "A shape that lasts (a lead turned over, a bundle branch block that sets in) is unusual until the running template "
    "has followed it; then only the shape part still counts it.",
    "Timing across a gap is unknown and counts as usual; so do the first beats of a recording.",
    "Before five beats there is no template, and a beat is compared with normal beats of everybody alone.",
    "A window of zeros, NaN or absurd samples has a finite score, which says nothing: ingest keeps such windows out.",
)


def build_card(
    *,
    model_name: str,
    model_version: int,
    data_span: Mapping[str, Any],
    feature_spec: Mapping[str, Any],
    config: Mapping[str, Any],
    code_digest: str,
    git_revision: str,
    calibration: Mapping[str, Any],
    metrics: Mapping[str, float],
    slices: Mapping[str, Mapping[str, float]],
    artifacts: Mapping[str, str],
    software: Mapping[str, str],
) -> dict[str, Any]:
    """Puts a card together; everything in it is JSON.

    Args:
        data_span: the span's number, digest and content.
        calibration: what the Trainer wrote beside the model.
        metrics: on the test split, overall.
        slices: the same by slice, "feature=value" to metrics.
        artifacts: stage outputs to where they are.
    """
    content = data_span["content"]
    recordings: dict[str, list[str]] = {}
    labels: dict[str, dict[str, int]] = {}
    for entry in content["window_sets"]:
        recordings.setdefault(entry["split"], []).append(entry["recording"])
        counts = labels.setdefault(entry["split"], {})
        for label, n in entry["labels"].items():
            counts[label] = counts.get(label, 0) + n
    return {
        "model": {
            "name": model_name,
            "version": model_version,
            "type": "autoencoders with template distance and rhythm term, calibrated on held-out normal beats",
            "parameters": calibration["parameters"],
            "code_digest": code_digest,
            "git_revision": git_revision,
            "software": dict(software),
        },
        "intended_use": _INTENDED_USE,
        "limits": list(_LIMITS),
        "data": {
            "span": data_span["span"],
            "digest": data_span["digest"],
            "recordings": recordings,
            "labels": labels,
            "simulated": any(entry["simulated"] for entry in content["window_sets"]),
            "normal_windows_used": calibration["normal_windows"],
        },
        "features": dict(feature_spec),
        "configuration": dict(config),
        "threshold": calibration["threshold"],
        "false_alarm_rate": calibration["false_alarm_rate"],
        "presets": dict(calibration["presets"]),
        "metrics": dict(metrics),
        "slices": {name: dict(values) for name, values in slices.items()},
        "artifacts": dict(artifacts),
    }
