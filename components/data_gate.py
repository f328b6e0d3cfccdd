"""Stops a run whose data ExampleValidator found wrong, with a list that a person can read."""

from pathlib import Path

from tensorflow_metadata.proto.v0 import anomalies_pb2
from tfx.dsl.component.experimental.annotations import InputArtifact
from tfx.dsl.component.experimental.decorators import component
from tfx.types import artifact_utils
from tfx.types.standard_artifacts import ExampleAnomalies

from configs.errors import DataInvalidError


def describe_anomalies(anomalies: ExampleAnomalies) -> list[str]:
    """One line an anomaly: split, feature, what is wrong."""
    lines = []
    for split in artifact_utils.decode_split_names(anomalies.split_names):
        path = Path(artifact_utils.get_split_uri([anomalies], split)) / "SchemaDiff.pb"
        found = anomalies_pb2.Anomalies.FromString(path.read_bytes())
        if found.HasField("dataset_anomaly_info"):
            lines.append(f"{split} split, whole data set: {found.dataset_anomaly_info.description}")
        for feature, info in sorted(found.anomaly_info.items()):
            lines.append(f"{split} split, {feature}: {info.description}")
    return lines


@component
def DataGate(anomalies: InputArtifact[ExampleAnomalies]) -> None:  # noqa: N802 (named as TFX's components are)
    """Lets the pipeline go on when there are no anomalies.

    Raises:
        DataInvalidError: there are some; names them all.
    """
    lines = describe_anomalies(anomalies)
    if lines:
        raise DataInvalidError(
            "training data",
            f"{len(lines)} anomalies against the schema:\n  " + "\n  ".join(lines),
            "Correct the data, or curate a new version of the schema if the data is right (docs/training.md).",
        )
