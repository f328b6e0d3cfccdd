"""One anomalous beat: what it looks like, what was expected, what people said of it, and what the reader says."""

from collections.abc import Mapping
from typing import Annotated, Any, Final

import numpy as np
from fastapi import APIRouter, Path, Query
from fastapi.responses import HTMLResponse, Response
from starlette.background import BackgroundTask

from api.access import ADMIN, REVIEW
from api.queries import MAX_ID, parse_anomaly_id
from api.reviewing import deliver, review_beat, review_episode
from api.ui.audited import ADMIN_REVIEWS, READS_STRIP
from api.ui.opened import open_recording
from api.ui.page import FormDep, Page, PageDep, local_path, see_other, with_query
from api.ui.recordings import cache_of
from api.ui.strips import beat_pictures, clock_text, strip_length
from api.ui.worklist import WorkListDep, neighbours_of, reasons_of
from configs.contract import RR_COLUMNS
from configs.errors import NotFoundError, RequestError
from warehouse.signal.ecg import AamiClass
from warehouse.store.records import Opinion
from warehouse.store.review_state import CAUSES, LABELS_OF, VERDICTS
from warehouse.summaries import beats_for_threshold

MAX_COMMENT: Final = 2000
SHOWN_REVIEWS: Final = 50

router = APIRouter(include_in_schema=False)

AnomalyId = Annotated[str, Path(max_length=40)]


@router.get("/ui/anomalies/{anomaly_id}", dependencies=[READS_STRIP])
def anomaly(
    page: PageDep,
    anomaly_id: AnomalyId,
    listing: WorkListDep,
    undo: Annotated[int | None, Query(ge=1, le=MAX_ID)] = None,
    sampled: Annotated[str, Query(max_length=3)] = "",
    calibrating: Annotated[str, Query(max_length=3)] = "",
) -> HTMLResponse:
    """The strip and the review of one beat.

    Args:
        undo: a review just given, which can be taken back.
        sampled: "yes" for a beat of the random sample.
        calibrating: "yes" for a beat that is asked about for its recording's threshold.
    """
    services, row = page.services, _row(page, anomaly_id)
    opened = open_recording(services, cache_of(page), row["recording_id"], page.reader.site, row["model_version"])
    if row["window_id"] not in opened.beats.window_id:
        raise NotFoundError(f"window of anomaly {anomaly_id}", "is no longer in the warehouse", "Go on with the next.")
    typical = cache_of(page).typical(services, opened)
    length_s = strip_length(page.paper, page.column_mm)
    pictures = beat_pictures(services, opened, row["window_id"], typical, page.paper, page.words, length_s)
    before, after = neighbours_of(page, listing, row)
    results = services.stores.results
    at = int(np.flatnonzero(pictures.block.window_id == row["window_id"])[0])
    return page.html(
        "beat.html", row=row, opened=opened, pictures=pictures, anomaly_id=anomaly_id, listing=listing, undo=undo,
        sampled=sampled == "yes", calibrating=calibrating == "yes",
        reasons=reasons_of(page, row),
        before=before, after=after, verdicts=VERDICTS, labels_of=LABELS_OF, causes=CAUSES,
        reviews=results.reviews(page.reader.site, window_id=row["window_id"], limit=SHOWN_REVIEWS),
        rr_ms={name: round(float(v) * 1000) or None for name, v in zip(RR_COLUMNS, pictures.block.rr[at], strict=True)},
        quality=float(pictures.block.quality[at]), reference=_reference(row),
        episode=_episode(page, row), clock=clock_text(opened, row["r_peak_s"], page.words), max_comment=MAX_COMMENT,
    )  # fmt: skip


@router.post("/ui/anomalies/{anomaly_id}/review", dependencies=[ADMIN_REVIEWS])
def review(page: PageDep, anomaly_id: AnomalyId, listing: WorkListDep, form: FormDep) -> Response:
    """Keeps what the reader says, and goes on to the next beat of the list."""
    page.check_form(form)
    row = _row(page, anomaly_id)
    stores, opinion = page.services.stores, _opinion(page, form, row)
    _, after = neighbours_of(page, listing, row, beyond_episode=opinion.episode_id)  # now: it may leave the list
    if opinion.episode_id is not None:
        added = review_episode(stores, page.reader.site, opinion)
    else:
        added = review_beat(stores, page.reader.site, row["window_id"], opinion)
    path = "/ui/sample" if opinion.sampled else f"/ui/anomalies/{after}" if after else "/ui"
    if form.get("calibrating") == "yes":
        path = f"/ui/recordings/{row['recording_id']}/calibration"
    response = see_other(with_query(path, listing.query(), undo=added[0]["review_id"]))
    response.background = BackgroundTask(deliver, stores)
    return response


@router.post("/ui/reviews/{review_id}/undo", dependencies=[ADMIN_REVIEWS])
def undo_review(page: PageDep, review_id: Annotated[int, Path(ge=1, le=MAX_ID)], form: FormDep) -> Response:
    """Takes back a review of the reader's own, and goes back to its beat."""
    page.check_form(form)
    reader, results = page.reader, page.services.stores.results
    said = results.review(reader.site, review_id)
    if said["reviewer"] != reader.name and not reader.may(ADMIN):
        raise RequestError(f"review {review_id}", "is somebody else's", "Give your own review instead.")
    results.undo(reader.site, review_id, reader.name, reader.role)
    back = local_path(form.get("back"))
    query = back.partition("?")[2]
    url = f"/ui/anomalies/{said['model_version']}-{said['window_id']}" + (f"?{query}" if query else "")
    response = see_other(url)
    response.background = BackgroundTask(deliver, page.services.stores)
    return response


@router.get("/ui/sample")
def sample(page: PageDep, undo: Annotated[int | None, Query(ge=1, le=MAX_ID)] = None) -> Response:
    """A beat drawn at random of those that were not flagged and that nobody reviewed."""
    page.reader.require(REVIEW)
    version, seed = page.services.models.stable().model_version, int(page.services.clock().timestamp() * 1e6)
    rows = page.services.stores.results.random_beats(version, page.reader.site, 1, flagged=False, seed=seed)
    if not rows:
        return see_other("/ui/analysis")
    return see_other(with_query(f"/ui/anomalies/{version}-{rows[0]['window_id']}", sampled="yes", undo=undo))


@router.get("/ui/recordings/{recording_id}/calibration")
def calibration(
    page: PageDep,
    recording_id: Annotated[int, Path(ge=1, le=MAX_ID)],
    undo: Annotated[int | None, Query(ge=1, le=MAX_ID)] = None,
) -> Response:
    """The beat whose review tells most about a recording's own threshold; the recording, when none is left."""
    page.reader.require(REVIEW)
    stores, model = page.services.stores, page.services.models.stable()
    window_set = stores.warehouse.window_set_of(recording_id, model.feature_version, site=page.reader.site)
    chosen, _ = beats_for_threshold(stores.results, model, window_set, 1)
    if not chosen:
        return see_other(f"/ui/recordings/{recording_id}")
    return see_other(with_query(f"/ui/anomalies/{model.model_version}-{chosen[0]}", calibrating="yes", undo=undo))


def _row(page: Page, anomaly_id: str) -> dict[str, Any]:
    """The beat's result: an anomaly, or any other scored beat, which the random sample hands out.

    Raises:
        NotFoundError: this version has not scored it, or it is another site's.
    """
    model_version, window_id = parse_anomaly_id(anomaly_id)
    stores, site = page.services.stores, page.reader.site
    try:
        return stores.results.anomaly(model_version, window_id, site=site)
    except NotFoundError:
        window_set, _ = stores.warehouse.window_set(window_id, site=site)
        score = stores.results.score_of(model_version, window_id)
        if score is None:
            raise
    state = stores.results.review_states([window_id])[window_id]
    opened = open_recording(page.services, cache_of(page), window_set.recording_id, site, model_version)
    return {
        **score, "recording": window_set.recording, "episode_id": None, "label": AamiClass.UNLABELLED,
        "r_peak_s": float(opened.beats.time_s[np.searchsorted(opened.beats.window_id, window_id)]),
        "lead": window_set.lead_slots[score["lead_slot"]], "review_status": state.status, "verdict": state.verdict,
        "review_label": state.label, "cause": state.cause, "reviewers": state.reviewers,
    }  # fmt: skip


def _opinion(page: Page, form: Mapping[str, str], row: Mapping[str, Any]) -> Opinion:
    """What the form says.

    Raises:
        RequestError: a value is not on its list, the label contradicts the verdict, or the comment is too long.
    """
    verdict, label, cause = form.get("verdict", ""), form.get("label") or None, form.get("cause") or None
    comment = form.get("comment", "").replace("\0", "").strip() or None
    if verdict not in VERDICTS:
        raise RequestError("verdict", "is none", f"Choose one of {', '.join(VERDICTS)}.")
    if label is not None and label not in LABELS_OF[verdict]:
        fitting = [name for name, labels in LABELS_OF.items() if label in labels]
        hint = f"That label goes with {' or '.join(fitting)}." if fitting else "Choose a label of the list."
        raise RequestError("label", f"{label} does not go with {verdict}", hint)
    if cause is not None and cause not in CAUSES:
        raise RequestError("cause", "is not on the list", f"Choose one of {', '.join(CAUSES)}.")
    if comment is not None and len(comment) > MAX_COMMENT:
        raise RequestError("comment", f"has more than {MAX_COMMENT} characters", "Shorten it.")
    return Opinion(
        page.reader.name, page.reader.role, row["model_version"], verdict, label, cause, comment,
        episode_id=row["episode_id"] if form.get("whole") == "yes" else None, sampled=form.get("sampled") == "yes",
    )  # fmt: skip


def _reference(row: Mapping[str, Any]) -> str | None:
    return None if row["label"] == AamiClass.UNLABELLED else str(row["label"])


def _episode(page: Page, row: Mapping[str, Any]) -> Mapping[str, Any] | None:
    if row["episode_id"] is None:
        return None
    return page.services.stores.results.episode(row["model_version"], row["episode_id"], site=page.reader.site)
