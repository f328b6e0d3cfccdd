"""What made a model, which model made a score, which models saw a patient: each one query."""

from datetime import UTC, datetime
from typing import Annotated

from fastapi import APIRouter, Path
from pydantic import BaseModel

from api.answers import MarkdownResponse, utc
from api.deps import Reader, ServicesDep
from api.openapi import answers
from api.queries import MAX_ID, ModelVersionPath, Name
from api.schemas.models import (
    Datasheet,
    ModelLineage,
    PatientModel,
    PatientModels,
    ScoreOrigin,
    ScoreOrigins,
    SourceRecording,
    Stage,
)
from configs.cards import as_markdown
from configs.errors import NotFoundError

_RELEASE_FIELDS = ("release_id", "at", "action", "operator", "reason")

router = APIRouter(tags=["models"])


@router.get("/models/{model_version}/lineage", responses=answers(404, 422, 503))
def get_model_lineage(services: ServicesDep, principal: Reader, model_version: ModelVersionPath) -> ModelLineage:
    """What made a version: recordings and span, schema, code, configuration, and the pipeline's stages."""
    found = services.stores.results.model_lineage(model_version, principal.site)
    card, run = found["card"], found["run"] or {}
    made_by, data, schema = card.get("model", {}), card.get("data", {}), card.get("schema", {})
    return ModelLineage(
        model_version=model_version,
        registered_at=utc(found["registered_at"]),
        digest=found["digest"],
        data_span=found["data_span"],
        data_span_digest=data.get("digest"),
        labels=data.get("reviewers_labels"),
        feature_version=found["feature_version"],
        recordings=[
            SourceRecording(patient=row["pseudonym"], windows=row["n_windows"], **_named(row, SourceRecording))
            for row in found["recordings"] or ()
        ],
        recordings_elsewhere=found["elsewhere"],
        schema_version=schema.get("version"),
        schema_sha256=schema.get("sha256"),
        code_digest=made_by.get("code_digest"),
        git_revision=made_by.get("git_revision"),
        configuration=card.get("configuration", {}),
        software=made_by.get("software", {}),
        training_run=run.get("run_id"),
        trained_at=datetime.fromisoformat(run["started_at"]).astimezone(UTC) if run else None,
        baseline=card.get("baseline"),
        stages=[Stage(**stage) for stage in card.get("stages", ())],
        releases=[{name: row[name] for name in _RELEASE_FIELDS} for row in found["releases"] or ()],
    )


@router.get("/models/{model_version}/datasheet", responses=answers(404, 422, 503))
def get_datasheet(services: ServicesDep, principal: Reader, model_version: ModelVersionPath) -> Datasheet:
    """The data sheet of what a version was made from, after Gebru et al."""
    (model,) = services.stores.results.models(model_version)
    if model.datasheet is None:
        raise NotFoundError(
            f"model version {model_version}", "has no data sheet: it is older than data sheets", "Train a new version."
        )
    return Datasheet(model_version=model_version, datasheet=dict(model.datasheet))


@router.get("/models/{model_version}/datasheet.md", responses=answers(404, 422, 503), response_class=MarkdownResponse)
def get_datasheet_text(services: ServicesDep, principal: Reader, model_version: ModelVersionPath) -> MarkdownResponse:
    """The data sheet, to read: Markdown."""
    sheet = get_datasheet(services, principal, model_version).datasheet
    return MarkdownResponse(as_markdown(f"Data sheet of model version {model_version}", sheet))


@router.get("/windows/{window_id}/scores", responses=answers(404, 422, 503))
def list_scores_of_window(
    services: ServicesDep, principal: Reader, window_id: Annotated[int, Path(ge=1, le=MAX_ID, examples=[16777228])]
) -> ScoreOrigins:
    """Every score of a beat, which version made it, and whether that version had seen the patient."""
    window_set, _ = services.stores.warehouse.window_set(window_id, site=principal.site)
    patient = services.stores.warehouse.recording(window_set.recording_id, site=principal.site)["pseudonym"]
    found = services.stores.results.score_lineage(window_id, patient, principal.site)
    return ScoreOrigins(
        window_id=window_id,
        items=[
            ScoreOrigin(
                anomalous=row["verdict"], patient_seen_in=row["seen_in"], registered_at=utc(row["registered_at"]),
                **{k: v for k, v in _named(row, ScoreOrigin).items() if k != "registered_at"},
            )
            for row in found
        ],
    )  # fmt: skip


@router.get("/patients/{patient}/models", responses=answers(404, 422, 503))
def list_models_of_patient(
    services: ServicesDep, principal: Reader, patient: Annotated[Name, Path(examples=["9b1c5a0e"])]
) -> PatientModels:
    """Which model versions saw a patient, and in which split; what to retrain when their data must go."""
    found = services.stores.results.models_of_patient(principal.site, patient)
    if not found and not services.stores.warehouse.recordings(site=principal.site, pseudonym=patient, limit=1):
        raise NotFoundError(f"patient {patient}", "does not exist", "GET /recordings tells patients' pseudonyms.")
    return PatientModels(
        patient=patient,
        items=[PatientModel(**{**row, "registered_at": utc(row["registered_at"])}) for row in found],
    )


def _named(row: dict[str, object], schema: type[BaseModel]) -> dict[str, object]:
    return {name: value for name, value in row.items() if name in schema.model_fields}
