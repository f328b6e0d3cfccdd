"""Pushed model versions."""

from collections.abc import Mapping
from datetime import UTC
from typing import Any

from fastapi import APIRouter

from api.access import Principal
from api.answers import MarkdownResponse, with_fields
from api.deps import Reader, Services, ServicesDep
from api.openapi import answers
from api.queries import FieldsOfOne, ModelVersionPath
from api.schemas.models import Model, ModelList
from configs import contract
from configs.cards import as_markdown
from warehouse.store.records import ModelVersion

router = APIRouter(tags=["models"])


@router.get("/models", response_model=ModelList, responses=answers(422, 503))
def list_models(services: ServicesDep, principal: Reader, fields: FieldsOfOne = None) -> Any:
    """Pushed model versions, newest first."""
    results = services.stores.results
    here = results.recordings_here(principal.site)
    return with_fields(ModelList(items=[_model(model, here) for model in results.models()]), fields)


@router.get("/models/{model_version}", response_model=Model, responses=answers(404, 422, 503))
def get_model(
    services: ServicesDep, principal: Reader, model_version: ModelVersionPath, fields: FieldsOfOne = None
) -> Any:
    """One model version, with its card. Recordings of other sites are not named in it."""
    return with_fields(_version(services, principal, model_version), fields)


@router.get("/models/{model_version}/card.md", responses=answers(404, 422, 503), response_class=MarkdownResponse)
def get_model_card_text(services: ServicesDep, principal: Reader, model_version: ModelVersionPath) -> MarkdownResponse:
    """The model card, to read: Markdown."""
    model = _version(services, principal, model_version)
    return MarkdownResponse(as_markdown(f"Model card of {model.name}, version {model_version}", model.card))


def _version(services: Services, principal: Principal, model_version: int) -> Model:
    results = services.stores.results
    return _model(results.models(model_version)[0], results.recordings_here(principal.site))


def _model(model: ModelVersion, here: Mapping[int, frozenset[str]]) -> Model:
    return Model(
        model_version=model.model_version,
        name=model.model_name,
        feature_version=model.feature_version,
        threshold=model.threshold,
        data_span=model.data_span,
        digest=model.digest,
        registered_at=model.registered_at.astimezone(UTC),
        card=dict(model.card)
        if model.datasheet is None
        else _card_of(model, here.get(model.model_version, frozenset())),
    )


def _card_of(model: ModelVersion, names: frozenset[str]) -> dict[str, Any]:
    """A version's card that names these recordings alone. Versions older than lineage have no data sheet: not here."""
    card, prefix = model.card, f"{contract.RECORDING}="
    shown = {}
    if "data" in card:
        recordings = card["data"].get("recordings", {})
        kept = {split: [name for name in known if name in names] for split, known in recordings.items()}
        shown["data"] = {**card["data"], "recordings": kept}
    if "slices" in card:
        shown["slices"] = {
            name: values
            for name, values in card["slices"].items()
            if not name.startswith(prefix) or name.removeprefix(prefix) in names
        }
    return {**card, **shown}
