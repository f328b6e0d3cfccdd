"""An episode as a FHIR Observation with SampledData (R4 4.0.1 and R5 5.0.0)."""

from collections.abc import Mapping
from datetime import timedelta
from typing import Any, Final

import numpy as np

from configs.contract import MV_PER_COUNT
from warehouse.store.records import ModelVersion
from warehouse.store.strip_queries import Strip

MEDIA_TYPE: Final = "application/fhir+json"
VERSIONS: Final = {"R4": "4.0", "R5": "5.0"}

_MDC: Final = "urn:iso:std:iso:11073:10101"
#: Lead names to IEEE 11073-10101 codes of an ECG lead's samples.
_LEADS: Final = {
    "I": ("131329", "MDC_ECG_ELEC_POTL_I"), "II": ("131330", "MDC_ECG_ELEC_POTL_II"),
    "III": ("131389", "MDC_ECG_ELEC_POTL_III"), "AVR": ("131390", "MDC_ECG_ELEC_POTL_AVR"),
    "AVL": ("131391", "MDC_ECG_ELEC_POTL_AVL"), "AVF": ("131392", "MDC_ECG_ELEC_POTL_AVF"),
    "V1": ("131331", "MDC_ECG_ELEC_POTL_V1"), "V2": ("131332", "MDC_ECG_ELEC_POTL_V2"),
    "V3": ("131333", "MDC_ECG_ELEC_POTL_V3"), "V4": ("131334", "MDC_ECG_ELEC_POTL_V4"),
    "V5": ("131335", "MDC_ECG_ELEC_POTL_V5"), "V6": ("131336", "MDC_ECG_ELEC_POTL_V6"),
    "MLII": ("131330", "MDC_ECG_ELEC_POTL_II"),
}  # fmt: skip


def observation(
    version: str,
    episode: Mapping[str, Any],
    recording: Mapping[str, Any],
    strip: Strip,
    model: ModelVersion,
    statuses: Mapping[str, int],
) -> dict[str, Any]:
    """The resource.

    Args:
        version: R4 or R5.
        episode: a row of `episodes`; recording: one of `recordings`, with the patient's pseudonym.
        strip: the signal to send.
        statuses: how many of its beats have each review status.
    """
    start = recording["start_time"] + timedelta(seconds=strip.first_sample / strip.sampling_rate_hz)
    end = start + timedelta(seconds=len(strip.samples_mv) / strip.sampling_rate_hz)
    reviewed = statuses.get("unreviewed", 0) == 0
    resource: dict[str, Any] = {
        "resourceType": "Observation",
        "id": f"ecg-{episode['model_version']}-{episode['episode_id']}",
        "status": "final" if reviewed else "preliminary",
        "category": [
            {
                "coding": [
                    {
                        "system": "http://terminology.hl7.org/CodeSystem/observation-category",
                        "code": "procedure",
                        "display": "Procedure",
                    }
                ]
            }
        ],
        "code": {"coding": [{"system": _MDC, "code": "131328", "display": "MDC_ECG_ELEC_POTL"}], "text": "ECG episode"},
        "subject": {"identifier": {"system": "urn:ecg:pseudonym", "value": recording["pseudonym"]}},
        "effectivePeriod": {"start": _instant(start), "end": _instant(end)},
        "device": {"display": recording["device"] or "unknown"},
        "note": [
            {
                "text": f"{episode['n_beats']} anomalous beats, peak score {episode['peak_score']:.2f} (threshold "
                f"{model.threshold:.2f}), model version {model.model_version}. Decision support for review, not a "
                "diagnosis."
            }
        ],
        "component": [_component(version, strip, column) for column in range(len(strip.leads))],
    }
    if not recording["device"]:
        del resource["device"]
    return resource


def _component(version: str, strip: Strip, column: int) -> dict[str, Any]:
    lead = strip.leads[column]
    code, display = _LEADS.get(lead.upper(), ("131328", "MDC_ECG_ELEC_POTL"))
    microvolts = np.rint(strip.samples_mv[:, column] / MV_PER_COUNT)
    data = " ".join("E" if np.isnan(value) else str(int(value)) for value in microvolts)
    period_ms = 1000 / strip.sampling_rate_hz
    timing: dict[str, Any] = {"period": period_ms}
    if version == "R5":
        timing = {"interval": period_ms, "intervalUnit": "ms"}
    return {
        "code": {"coding": [{"system": _MDC, "code": code, "display": display}], "text": lead},
        "valueSampledData": {
            "origin": {"value": 0, "unit": "uV", "system": "http://unitsofmeasure.org", "code": "uV"},
            **timing,
            "factor": 1,
            "dimensions": 1,
            "data": data,
        },
    }


def _instant(moment: Any) -> str:
    return str(moment.isoformat(timespec="milliseconds"))
