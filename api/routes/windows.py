"""One beat as the model sees it, flagged or not."""

from typing import Annotated, Any

from fastapi import APIRouter, Path, Query

from api.answers import utc, with_fields
from api.audit import READS_STRIP
from api.deferral import reasons_to_defer
from api.deps import Reader, ServicesDep
from api.openapi import answers
from api.queries import MAX_ID, FieldsOfOne
from api.routes.anomalies import by_lead, rr_of
from api.schemas.findings import Window
from configs.errors import ModelUnavailableError, NotFoundError
from warehouse.signal.ecg import AamiClass
from warehouse.signal.familiarity import familiarity
from warehouse.store.window_block import to_datetime

router = APIRouter(tags=["recordings"])


@router.get("/windows/{window_id}", response_model=Window, responses=answers(404, 422, 503), dependencies=[READS_STRIP])
def get_window(
    services: ServicesDep,
    principal: Reader,
    window_id: Annotated[int, Path(ge=1, le=MAX_ID, examples=[16777228])],
    model_version: Annotated[
        int | None, Query(ge=1, le=MAX_ID, description="Whose score to give; the stable one when left out.")
    ] = None,
    fields: FieldsOfOne = None,
) -> Any:
    """One beat: its samples, the patient's typical beat then, its score if it has one, and its neighbours."""
    warehouse, results = services.stores.warehouse, services.stores.results
    window_set, feature_version = warehouse.window_set(window_id, site=principal.site)
    spec = warehouse.feature_spec(feature_version)
    block = warehouse.read_block(spec, window_id, window_id + 1)
    if not len(block):
        raise NotFoundError(f"window {window_id}", "does not exist", "GET /anomalies leads to windows.")
    try:
        model = (
            services.models.serving(window_set.recording)
            if model_version is None
            else services.models.version(model_version)
        )
    except ModelUnavailableError:
        model = None  # a beat can be looked at before there is any model
    score = None if model is None else results.score_of(model.model_version, window_id)
    state = results.review_states([window_id])[window_id]
    likeness = float(familiarity(block)[0])
    known = None if likeness != likeness else round(likeness, 4)  # NaN: no typical beat yet
    quality = round(float(block.quality[0]), 4)
    reasons = []
    if model is not None and score is not None:
        reasons = reasons_to_defer(
            services.settings, score=score["score"], threshold=model.threshold, familiarity=known, quality=quality
        )
    label = block.aami_class[0].decode()
    previous_id, next_id = warehouse.neighbours(window_id)
    found = Window(
        window_id=window_id,
        recording_id=window_set.recording_id,
        recording=window_set.recording,
        time=utc(to_datetime(int(block.recorded_at_us[0]))),
        r_peak_s=float(block.r_peak_s[0]),
        feature_version=feature_version,
        sampling_rate_hz=spec.sampling_rate_hz,
        r_peak_index=None if spec.precut_samples else spec.before_samples,
        leads=[lead or None for lead in window_set.lead_slots],
        lead_usable=block.lead_mask[0].tolist(),
        samples_mv=by_lead(block.samples[0] / 1000.0),
        template_mv=by_lead(block.template[0] / 1000.0) if block.template_beats[0] else None,
        template_beats=int(block.template_beats[0]),
        rr=rr_of(block),
        quality=quality,
        familiarity=known,
        reference_label=None if label == AamiClass.UNLABELLED else label,
        model_version=None if score is None else score["model_version"],
        score=None if score is None else score["score"],
        anomalous=None if score is None else score["verdict"],
        threshold=None if model is None else model.threshold,
        review_status=state.status,
        review_verdict=state.verdict,
        review_label=state.label,
        needs_human=bool(reasons),
        reasons=reasons,
        previous_window_id=previous_id,
        next_window_id=next_id,
    )
    return with_fields(found, fields)
