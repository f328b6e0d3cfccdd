"""`python -m pipelines.reference`: makes the statistics that live windows are compared with, beside a model version.

Training does this for every version it pushes. By hand it is for versions of an older release.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from configs import cli
from configs.contract import TRAIN, FeatureSpec
from configs.settings import DriftSettings, Settings, load_settings
from monitoring.drift_encoder import ENCODER_FILE, load_encoder
from monitoring.drift_live import read_stream, typical_beats
from monitoring.drift_reference import EXTRA, REFERENCE_FILE, Reference, make_reference
from serving.model_client import ModelClient
from serving.model_files import verified_dir
from warehouse.store import Stores, open_stores
from warehouse.store.binary_copy import Array
from warehouse.store.drift_queries import LiveRecording
from warehouse.store.records import DataSpan


def main(
    model_version: Annotated[int | None, typer.Option(help="Model version; default: the one that serves.")] = None,
    profile: Annotated[
        str | None, typer.Option(help="Profile name or YAML file; default: ECG_PROFILE, else default.")
    ] = None,
) -> None:
    """Make the drift reference of a model version from the data span that it was trained on.

    Exit codes: 0 done, 2 bad configuration, 3 the span's recordings are gone, 5 database, disk or model not available.
    """
    settings = load_settings(profile)
    with open_stores(settings.warehouse_url, settings.results_url, settings.data_dir) as stores:
        model = stores.results.models(model_version or stores.results.release().stable)[0]
        directory = verified_dir(settings.models_dir, model)
        span = stores.warehouse.data_span(model.data_span)
        spec = FeatureSpec.model_validate(model.feature_spec)
        reference = write_reference(settings, stores, span, spec, directory, model.threshold)
    cli.note(f"{directory / EXTRA / REFERENCE_FILE}: {describe(reference)}")


def write_reference(
    settings: Settings, stores: Stores, span: DataSpan, spec: FeatureSpec, directory: Path, threshold: float
) -> Reference:
    """Makes the reference of the version in `directory`, and writes it into its folder.

    Input features are of all patients of the span; scores are of those that the model was not fitted on.
    """
    from serving.in_process import InProcessModelClient

    encoder = load_encoder(directory / EXTRA / ENCODER_FILE)
    wanted = [entry["window_set_id"] for entry in span.content["window_sets"]]
    recordings = spread(stores.warehouse.live_recordings(spec.digest, among=wanted), settings.drift)
    client = InProcessModelClient(directory, batch_size=settings.scoring.batch_size)
    windows = settings.drift.windows_per_recording
    streams = []
    for recording in recordings:
        held_out = recording.window_set.split != TRAIN
        scores = _scores(stores, spec, recording, client, windows) if held_out else None
        streams.append(
            read_stream(stores, spec, recording, windows=windows, encoder=encoder, scores=scores, threshold=threshold)
        )
    reference = make_reference(streams, window_sets=sorted(wanted), beats=typical_beats(stores, spec, recordings))
    cli.write_json(directory / EXTRA / REFERENCE_FILE, reference.to_json())
    return reference


def spread(recordings: Sequence[LiveRecording], settings: DriftSettings) -> list[LiveRecording]:
    """At most as many as the settings say, spread evenly over the order of arrival."""
    n, most = len(recordings), settings.reference_recordings
    return [recordings[i * n // most] for i in range(most)] if n > most else list(recordings)


def _scores(
    stores: Stores, spec: FeatureSpec, recording: LiveRecording, client: ModelClient, windows: int
) -> tuple[Array, Array]:
    window_set = recording.window_set
    first, stop = window_set.id_range(max(0, window_set.n_beats - windows), window_set.n_beats)
    block = stores.warehouse.read_block(spec, first, stop, well_formed=True)
    return block.window_id, client.score(block.model_inputs()).score if len(block) else block.quality


def describe(reference: Reference) -> str:
    """In a line what a reference holds, or what it lacks."""
    if not reference.by_slot and not reference.by_lead:
        return "too few patients to tell how patients differ; nothing will be compared"
    patients = max(len(f.means) for f in (*reference.by_lead.values(), *reference.by_slot.values()))
    missing = (
        "" if any(key.feature == "score" for key in reference.by_lead) else "; no scores: too few held-out patients"
    )
    return f"{len(reference.by_lead)} features by lead, of {patients} patients{missing}"


if __name__ == "__main__":
    cli.run(main)
