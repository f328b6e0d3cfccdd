"""The model card that travels with a version (after Mitchell et al., Model Cards for Model Reporting, FAT* 2019)."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from configs import contract

_INTENDED_USE = (
    "Decision support: ranks heartbeats for review by a person, by how unlike normal beats they are. "
    "Not a diagnosis, and not a monitor that alarms."
)
_USERS = "People who review ECG: technicians and clinicians, and the engineers who run the platform for them."
_OUT_OF_SCOPE = (
    "Diagnosis, or a decision about treatment, without a person who looks at the ECG.",
    "Alarms at the bedside: nothing is scored while it is recorded.",
    "Kinds of recordings that the training data did not hold: other leads, paced rhythms, animals.",
)
_FACTORS = (
    "Patients: age, sex, and what their normal beats look like.",
    "Recording: device, gain, leads and where they were put, noise.",
    "Rhythm: how regular it is decides what counts as early.",
)
_METRICS = {
    "roc_auc": "Share of pairs of an anomalous and a normal beat that the score puts in the right order.",
    "average_precision": "Mean precision over recall.",
    "recall": "Share of anomalous beats at or above the threshold.",
    "precision": "Share of beats at or above the threshold that are anomalous.",
    "false_alarm_rate": "Share of normal beats at or above the threshold.",
    "example_count": "Windows.",
    "labelled_count": "Windows with a known class; the others count in none of the above.",
}
_ETHICS = (
    "Trained on health data under pseudonyms; the model holds weights and scales, no beats.",
    "Who is rare in the training data is served worse. Read the slices by sex, age band and leads before use.",
    "Flags that nobody has time for wear people out: choose the preset by what can be reviewed.",
)
_RECOMMENDATIONS = (
    "Compare the false alarm rate by recording: a threshold that holds on average may not hold for a patient.",
    "Where a recording's own rate matters, review the 30 to 50 beats that are asked for, then recalibrate it.",
    "Watch it in shadow on your own recordings before it is promoted.",
    "Review a random sample of beats that were not flagged: nothing else tells what is missed.",
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
    "A patient with one beat has neither template nor rhythm: normal beats of everybody decide alone.",
    "A recording without a normal beat becomes its own template: then only the shape part, against normal beats of "
    "everybody, can tell. Training refuses a split without normal beats.",
    "A lead that is missing, or unusable in a window, is left out of the measure; without any lead only timing counts.",
    "A training that comes to a loss, weights or scores that are not finite ends with an error: nothing is pushed.",
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
    schema: Mapping[str, Any],
    stages: Sequence[Mapping[str, Any]],
    baseline: int | None,
) -> dict[str, Any]:
    """Puts a card together; everything in it is JSON.

    Args:
        data_span: the span's number, digest and content.
        calibration: what the Trainer wrote beside the model.
        metrics: on the test split, overall.
        slices: the same by slice, "feature=value" to metrics.
        artifacts: stage outputs to where they are.
        schema: version and sha256 of the curated data schema.
        stages: `pipelines.stages.lineage_of_last_run`.
        baseline: version that this one had to be no worse than; None where there was none.
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
            "flops_per_window": calibration["flops_per_window"],
            "code_digest": code_digest,
            "git_revision": git_revision,
            "software": dict(software),
            "date": datetime.fromtimestamp(model_version, UTC).date().isoformat(),
            "licence": "Apache-2.0 (the code); the weights are subject to what the training data allows",
        },
        "intended_use": _INTENDED_USE,
        "intended_users": _USERS,
        "out_of_scope": list(_OUT_OF_SCOPE),
        "factors": {"relevant": list(_FACTORS), "evaluated": list(contract.SLICE_FEATURES)},
        "limits": list(_LIMITS),
        "data": {
            "span": data_span["span"],
            "digest": data_span["digest"],
            "recordings": recordings,
            "labels": labels,
            "simulated": any(entry["simulated"] for entry in content["window_sets"]),
            "normal_windows_used": calibration["normal_windows"],
            "reviewers_labels": content.get("labels"),
        },
        "evaluation_data": {
            "split": contract.TEST,
            "recordings": len(recordings.get(contract.TEST, ())),
            "why": "Patients that neither training nor calibration saw.",
            "preprocessing": "The same as in training: it is inside the model.",
        },
        "features": dict(feature_spec),
        "configuration": dict(config),
        "threshold": calibration["threshold"],
        "false_alarm_rate": calibration["false_alarm_rate"],
        "presets": dict(calibration["presets"]),
        "metrics": dict(metrics),
        "metric_definitions": dict(_METRICS),
        "slices": {name: dict(values) for name, values in slices.items()},
        "ethical_considerations": list(_ETHICS),
        "recommendations": list(_RECOMMENDATIONS),
        "baseline": baseline,
        "schema": dict(schema),
        "stages": [dict(stage) for stage in stages],
        "artifacts": dict(artifacts),
    }
