"""Recordings: the list, and one with its timeline, strip and episodes."""

from typing import Annotated

import numpy as np
from fastapi import APIRouter, Path, Query
from fastapi.responses import HTMLResponse

from api.queries import MAX_ID
from api.ui.audited import READS_STRIP
from api.ui.drawing import Drawing
from api.ui.opened import BeatCache, Opened, open_recording, read_envelope
from api.ui.page import HEADERS, Page, PageDep
from api.ui.strips import clock_text, plain_strip, stretch_around, strip_length
from api.ui.timeline import View, draw_timeline
from api.ui.timeline import Words as TimelineWords

EPISODES_SHOWN = 200
SHORTEST_VIEW_S = 1.0
SAMPLES_A_MM = 15  # up to which the timeline shows each

router = APIRouter(include_in_schema=False)

RecordingId = Annotated[int, Path(ge=1, le=MAX_ID)]
Seconds = Annotated[float | None, Query(ge=0, le=1e9, allow_inf_nan=False)]


@router.get("/ui/recordings")
def recordings(page: PageDep, after: Annotated[int, Query(ge=0, le=MAX_ID)] = 0) -> HTMLResponse:
    """Recordings in order of ingest, with what was found in them."""
    rows = page.services.stores.warehouse.recordings(after_id=after, limit=101, site=page.reader.site)
    model, release = page.services.models.stable(), page.services.models.release()
    summaries = page.services.stores.results.summaries([row["recording_id"] for row in rows], release)
    found = {summary["recording_id"]: summary for summary in summaries}
    return page.html(
        "recordings.html", rows=rows[:100], found=found, model=model,
        next_after=rows[99]["recording_id"] if len(rows) > 100 else None,
    )  # fmt: skip


@router.get("/ui/recordings/{recording_id}", dependencies=[READS_STRIP])
def recording(
    page: PageDep, recording_id: RecordingId, start_s: Seconds = None, end_s: Seconds = None, at_s: Seconds = None
) -> HTMLResponse:
    """One recording: timeline, a strip of it, episodes."""
    opened = open_recording(page.services, cache_of(page), recording_id, page.reader.site)
    results, version = page.services.stores.results, opened.model.model_version
    episodes = results.episodes_of_recording(version, recording_id, EPISODES_SHOWN)
    peaks = results.peaks_of_episodes(version, recording_id, [episode["episode_id"] for episode in episodes])
    view = view_of(opened, page, start_s, end_s)
    middle = at_s if at_s is not None else _first_of_interest(opened, view)
    return page.html(
        "recording.html", opened=opened, timeline=timeline(page, opened, view), episodes=episodes, peaks=peaks,
        strip=strip_at(page, opened, middle), at_s=min(middle, opened.duration_s), view=view,
        clock=lambda s: clock_text(opened, s, page.words),
    )  # fmt: skip


@router.get("/ui/recordings/{recording_id}/timeline", dependencies=[READS_STRIP])
def timeline_part(
    page: PageDep, recording_id: RecordingId, start_s: Seconds = None, end_s: Seconds = None
) -> HTMLResponse:
    """The timeline's drawing alone, of another view."""
    opened = open_recording(page.services, cache_of(page), recording_id, page.reader.site)
    return HTMLResponse(timeline(page, opened, view_of(opened, page, start_s, end_s)).svg("timeline"), headers=HEADERS)


@router.get("/ui/recordings/{recording_id}/strip", dependencies=[READS_STRIP])
def strip_part(page: PageDep, recording_id: RecordingId, at_s: Seconds = None) -> HTMLResponse:
    """The strip's drawing alone, at another moment."""
    opened = open_recording(page.services, cache_of(page), recording_id, page.reader.site)
    return HTMLResponse(strip_at(page, opened, at_s or 0.0).svg("strip"), headers=HEADERS)


def cache_of(page: Page) -> BeatCache:
    cache: BeatCache = page.request.app.state.beat_cache
    return cache


def view_of(opened: Opened, page: Page, start_s: float | None, end_s: float | None) -> View:
    """The stretch that was asked for, within the recording and not shorter than a beat."""
    length = min(max((opened.duration_s if end_s is None else end_s) - (start_s or 0.0), SHORTEST_VIEW_S),
                 opened.duration_s)  # fmt: skip
    start = min(max(start_s or 0.0, 0.0), opened.duration_s - length)
    return View(start, start + length, page.width_mm)


def timeline(page: Page, opened: Opened, view: View, *, links: bool = True) -> Drawing:
    """The timeline of a view, in the reader's words."""
    t, version = page.words, opened.model.model_version

    def clock(time_s: float, step_s: float) -> str:
        text = clock_text(opened, time_s, t)
        return text if step_s < 60 else text.rpartition(":")[0]

    words = TimelineWords(
        label=t("timeline.label", recording=opened.row["name"], start=t.duration(view.start_s),
                end=t.duration(view.end_s)),
        rate=t("timeline.rate"), flagged=t("timeline.flagged"), flagged_share=t("timeline.flagged_share"),
        unusable=t("timeline.unusable"), clock=clock, reason=lambda reason: t.term("reason", reason),
        score=t.number, length=t.length,
    )  # fmt: skip
    link = (lambda window_id: f"/ui/anomalies/{version}-{window_id}") if links else None
    n_samples = int((view.end_s - view.start_s) * opened.spec.sampling_rate_hz) + 1
    n_points = n_samples if n_samples <= view.width * SAMPLES_A_MM else int(view.width * 3)
    signal = read_envelope(page.services, opened, view.start_s, view.end_s, n_points)
    return draw_timeline(opened.beats, opened.spans, view, words, link, signal)


def strip_at(page: Page, opened: Opened, at_s: float) -> Drawing:
    start_s, end_s = stretch_around(opened, min(at_s, opened.duration_s), strip_length(page.paper, page.width_mm))
    return plain_strip(page.services, opened, start_s, end_s, page.paper, page.words)


def _first_of_interest(opened: Opened, view: View) -> float:
    """The highest score in view, where there is a score; else the view's middle."""
    beats = opened.beats
    low, high = np.searchsorted(beats.time_s, [view.start_s, view.end_s]).tolist()
    scores = beats.score[low:high]
    if not len(scores) or np.isnan(scores).all():
        return (view.start_s + view.end_s) / 2
    return float(beats.time_s[low + int(np.nanargmax(scores))])
