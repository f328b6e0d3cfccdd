"""Registers a pushed model: card, data sheet and drift reference beside it, its lineage in the results database."""

from hashlib import sha256
from importlib import metadata
from typing import Any

from components.datasheet import build_datasheet
from components.lineage import code_digest, git_revision
from components.model_card import build_card
from configs import cli
from configs.cards import write_documents
from pipelines.reference import describe, write_reference
from pipelines.stages import lineage_of_last_run
from pipelines.training_plan import Plan
from serving.model_files import EXTRA, model_digest, write_card
from warehouse.store import Stores

#: What a version's lineage takes from its recordings.
_LINEAGE = ("window_set_id", "site", "pseudonym", "recording_id", "recording", "checksum", "split")


def register(plan: Plan, stores: Stores, outcome: Any) -> None:
    """Writes model card and data sheet beside the pushed model, and both with its lineage into the results database."""
    settings, spec, version = plan.settings, plan.spec, outcome.pushed_version
    name = settings.training.model_name
    directory = settings.models_dir / name / str(version)
    sources, used = stores.warehouse.span_sources(plan.span), stores.warehouse.windows_used(plan.span)
    card = _card(plan, outcome)
    sheet = build_datasheet(
        plan.span, sources, stores.warehouse.span_losses(plan.span), used, spec.model_dump(mode="json")
    )
    write_card(directory, name, version, card)
    write_documents(directory / EXTRA, "datasheet", f"Data sheet of {name}, version {version}", sheet)
    reference = write_reference(
        settings, stores, plan.span, spec, directory, threshold=outcome.calibration["threshold"]
    )
    cli.note(f"Drift reference: {describe(reference)}")
    stores.results.register_model(
        {
            "model_version": version,
            "model_name": name,
            "feature_version": spec.digest,
            "feature_spec": spec.model_dump(mode="json"),
            "threshold": outcome.calibration["threshold"],
            "digest": model_digest(directory),
            "data_span": plan.span.span,
            "run_key": plan.run_key,
            "card": card,
            "datasheet": sheet,
        },
        [{"n_windows": used[source["window_set_id"]], **{key: source[key] for key in _LINEAGE}} for source in sources],
    )


def _card(plan: Plan, outcome: Any) -> dict[str, Any]:
    schema_file = plan.curated_schema
    assert schema_file is not None  # a run curates one before it trains
    return build_card(
        model_name=plan.settings.training.model_name,
        model_version=outcome.pushed_version,
        data_span=plan.span.__dict__,
        feature_spec=plan.spec.model_dump(mode="json"),
        config=as_trained(plan, outcome),
        code_digest=code_digest(),
        git_revision=git_revision(),
        calibration=outcome.calibration,
        metrics=outcome.metrics,
        slices=outcome.slices,
        artifacts=outcome.artifacts,
        software={
            package: metadata.version(package) for package in ("tensorflow", "tfx", "keras", "apache-beam", "numpy")
        },
        schema={
            "version": int(schema_file.parent.name[1:]),
            "sha256": sha256(schema_file.read_bytes()).hexdigest(),
            "file": str(schema_file),
        },
        stages=lineage_of_last_run(plan.home / "metadata.sqlite"),
        baseline=None if plan.champion is None else plan.champion.model_version,
    )


def as_trained(plan: Plan, outcome: Any) -> dict[str, Any]:
    """The configuration with what a search chose."""
    return {**plan.config, "training": plan.config["training"] | outcome.calibration["hyperparameters"]}
