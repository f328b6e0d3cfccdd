"""Pushed model versions."""

from datetime import UTC
from typing import Annotated

from fastapi import APIRouter, Path

from api.deps import Reader, ServicesDep
from api.openapi import answers
from api.queries import MAX_ID
from api.schemas import Model, ModelList
from warehouse.store.records import ModelVersion

router = APIRouter(tags=["models"])


@router.get("/models", responses=answers(503))
def list_models(services: ServicesDep, principal: Reader) -> ModelList:
    """Pushed model versions, newest first."""
    return ModelList(items=[_model(model) for model in services.stores.results.models()])


@router.get("/models/{model_version}", responses=answers(404, 422, 503))
def get_model(
    services: ServicesDep, principal: Reader, model_version: Annotated[int, Path(ge=1, le=MAX_ID, examples=[1])]
) -> Model:
    """One model version, with its card."""
    return _model(services.stores.results.models(model_version)[0])


def _model(model: ModelVersion) -> Model:
    return Model(
        model_version=model.model_version,
        name=model.model_name,
        feature_version=model.feature_version,
        threshold=model.threshold,
        data_span=model.data_span,
        digest=model.digest,
        registered_at=model.registered_at.astimezone(UTC),
        card=dict(model.card),
    )
