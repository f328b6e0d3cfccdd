"""The curated schema: what TFDV inferred on the first run, with what the contract knows and data cannot show."""

from pathlib import Path

import tensorflow_data_validation as tfdv
from tensorflow_metadata.proto.v0 import schema_pb2

from configs import contract
from configs.contract import FeatureSpec

_INT16_MV = 32.768  # the store's range
_CATEGORIES = {
    contract.AAMI_CLASS: ("N", "S", "V", "F", "Q", "U"),
    contract.SEX: ("female", "male", "unknown"),
    contract.AGE_BAND: ("0-17", "18-39", "40-64", "65-79", "80+", "unknown"),
}


def save_curated(inferred: Path, curated: Path, spec: FeatureSpec) -> None:
    """Writes version 1 of the curated schema from an inferred one.

    Every feature must be there in every window, with the geometry's length; values must be finite and within what
    the store can hold; categories are the contract's, not those that one run happened to see. Text stays text, also
    where that run happened to see numbers alone: MIT-BIH's recordings are called 100 to 234, others are not.
    """
    schema = tfdv.load_schema_text(str(inferred))
    schema.ClearField("string_domain")
    ranges = {
        contract.SAMPLES: (-_INT16_MV, _INT16_MV),
        contract.TEMPLATE: (-_INT16_MV, _INT16_MV),
        contract.LEAD_MASK: (0.0, 1.0),
        contract.RR: (0.0, 10.0),
        contract.TEMPLATE_BEATS: (0.0, float(spec.template_beats)),
        contract.LABEL_WEIGHT: (0.0, 1.0),
    }
    for feature in schema.feature:
        if (inferred_domain := feature.WhichOneof("domain_info")) is not None:
            feature.ClearField(inferred_domain)
        feature.presence.min_fraction = 1.0
        if feature.name in ranges:
            low, high = ranges[feature.name]
            feature.float_domain.CopyFrom(
                schema_pb2.FloatDomain(min=low, max=high, disallow_nan=True, disallow_inf=True)
            )
        if feature.name in _CATEGORIES:
            feature.string_domain.CopyFrom(
                schema_pb2.StringDomain(name=feature.name, value=list(_CATEGORIES[feature.name]))
            )
        if feature.name == contract.IS_ANOMALY:
            feature.int_domain.CopyFrom(schema_pb2.IntDomain(min=0, max=1))
    curated.parent.mkdir(parents=True, exist_ok=True)
    tfdv.write_schema_text(schema, str(curated))
