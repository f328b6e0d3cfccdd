"""The printable report of a recording: one content, as HTML that prints and as PDF."""

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, Final

import numpy as np
from fastapi import APIRouter, Query
from fastapi.responses import HTMLResponse, Response

from api.ui.audited import READS_STRIP
from api.ui.drawing import Drawing
from api.ui.i18n import Words
from api.ui.opened import Opened, open_recording
from api.ui.page import HEADERS, Page, PageDep
from api.ui.paper import Paper
from api.ui.recordings import RecordingId, cache_of, timeline
from api.ui.report_pdf import make_pdf
from api.ui.strip import BEATS_MM, CLOCK_MM
from api.ui.strips import clock_text, plain_strip, stretch_around, strip_length
from api.ui.timeline import View
from warehouse.store.review_state import CONFIRMED, SETTLED, UNREVIEWED, ReviewState

PRINT_MM: Final = 180.0  # A4 between margins of 15 mm
PRINT_STRIP_MM: Final = 240.0  # what a page has room for, with its heading
DEFAULT_EPISODES: Final = 8
LONGEST_SPANS: Final = 20
READ_REVIEWS: Final = 10_000

router = APIRouter(include_in_schema=False)

Count = Annotated[int, Query(ge=0, le=50)]


@dataclass(frozen=True)
class EpisodeStrip:
    """An episode, what reviews of its highest beat come to, and its strip to scale."""

    title: str
    facts: str
    strip: Drawing


@dataclass(frozen=True)
class Report:
    """What a report says, in the reader's words.

    Attributes:
        tables: heading, and rows of name and value.
        grids: heading, header row, and rows.
    """

    title: str
    notice: str
    tables: Sequence[tuple[str, Sequence[tuple[str, str]]]]
    timeline_title: str
    timeline: Drawing
    episodes_title: str
    episodes: Sequence[EpisodeStrip]
    episodes_note: str
    grids: Sequence[tuple[str, Sequence[str], Sequence[Sequence[str]]]]
    made: str


@router.get("/ui/recordings/{recording_id}/report", dependencies=[READS_STRIP])
def report(
    page: PageDep, recording_id: RecordingId, episodes: Count = DEFAULT_EPISODES, confirmed: bool = False
) -> HTMLResponse:
    """The report, to be looked at and printed."""
    content = make_report(page, recording_id, episodes, confirmed=confirmed)
    query = {"episodes": episodes, "confirmed": "true" if confirmed else None}
    pdf = f"/ui/recordings/{recording_id}/report.pdf"
    return page.html(
        "report.html", report=content, pdf=pdf, query=query, episodes=episodes, confirmed=confirmed,
        recording_id=recording_id,
    )  # fmt: skip


@router.get("/ui/recordings/{recording_id}/report.pdf", dependencies=[READS_STRIP])
def report_pdf(
    page: PageDep, recording_id: RecordingId, episodes: Count = DEFAULT_EPISODES, confirmed: bool = False
) -> Response:
    """The same as PDF, A4."""
    content = make_report(page, recording_id, episodes, confirmed=confirmed)
    headers = {**HEADERS, "Content-Disposition": f'inline; filename="ecg-report-{recording_id}.pdf"'}
    return Response(make_pdf(content, page.words("report.page")), media_type="application/pdf", headers=headers)


def make_report(page: Page, recording_id: int, n_episodes: int, *, confirmed: bool) -> Report:
    """Puts a report together.

    Args:
        confirmed: only episodes whose highest beat a reader confirmed.
    """
    opened = open_recording(page.services, cache_of(page), recording_id, page.reader.site)
    t, results = page.words, page.services.stores.results
    found = results.episodes_of_recording(opened.model.model_version, recording_id, 1000 if confirmed else n_episodes)
    peaks = results.peaks_of_episodes(opened.model.model_version, recording_id, [e["episode_id"] for e in found])
    states = results.review_states(peaks.values())
    if confirmed:
        sure = {i for i, window in peaks.items() if _is_confirmed(states[window])}
        found = [e for e in found if e["episode_id"] in sure][:n_episodes]
    strips = [_episode(page, opened, e, peaks.get(e["episode_id"]), states) for e in found]
    total = opened.summary["episodes"] if opened.summary else 0
    order = t("report.episodes_confirmed" if confirmed else "report.episodes_highest", n=len(strips), total=total)
    now: datetime = page.services.clock()
    return Report(
        title=t("report.title", name=opened.row["name"]),
        notice=t("app.notice"),
        tables=[(t("report.recording"), _header(opened, page)), (t("report.found"), _found(opened, page))],
        timeline_title=t("report.timeline"),
        timeline=timeline(page, opened, View(0.0, opened.duration_s, PRINT_MM), links=False),
        episodes_title=t("recording.episodes_title"),
        episodes=strips,
        episodes_note=order,
        grids=[_reviews(page, recording_id), _unusable(opened, page), _longest(opened, page)],
        made=t("report.made", now=t.moment(now), version=str(opened.model.model_version), reader=page.reader.name),
    )


def _is_confirmed(state: ReviewState) -> bool:
    return state.status in (CONFIRMED, SETTLED) and state.verdict == "confirm"


def _header(opened: Opened, page: Page) -> list[tuple[str, str]]:
    row, t = opened.row, page.words
    start = t.moment(opened.moment(0)) + " UTC" if row["start_time_known"] else t("recording.start_unknown")
    return [
        (t("recording.name"), row["name"] + (f" ({t('recording.simulated')})" if row["simulated"] else "")),
        (
            t("recording.patient"),
            f"{row['pseudonym'][:16]}, {t.term('sex', row['sex'])}, {t.term('age', row['age_band'])}",
        ),
        (t("report.start"), start),
        (t("report.duration"), t.duration(opened.duration_s)),
        (t("recording.leads"), ", ".join(row["leads"]) + f" ({t.plain(row['sampling_rate_hz'])} Hz)"),
        (t("report.device"), row["device"] or "-"),
        (t("report.r_peaks"), opened.window_set["r_peak_source"]),
        (t("report.model"), f"{opened.model.model_name} {opened.model.model_version}, {opened.model.digest[:12]}"),
        (t("report.threshold"), t("report.threshold_value", score=t.number(opened.model.threshold, 2))),
    ]


def _found(opened: Opened, page: Page) -> list[tuple[str, str]]:
    t, s = page.words, opened.summary
    if s is None:
        return [(t("report.found"), t("recording.not_scored"))]
    rate = opened.beats.rate_bpm()
    known = rate[~np.isnan(rate)]
    extremes = f"{t.number(float(known.min()), 0)} - {t.number(float(known.max()), 0)}" if len(known) else "-"
    return [
        (t("report.beats"), t.count(s["beats"])),
        (t("report.scored"), t.count(s["scored"])),
        (t("report.flagged"), f"{t.count(s['anomalous'])} ({t.number(s['burden_percent'])} %)"),
        (t("recording.episodes_title"), t.count(s["episodes"])),
        (t("report.rate"), f"{t.number(s['mean_heart_rate_bpm'], 0)} bpm"),
        (t("report.rate_range"), f"{extremes} bpm"),
        (t("report.reviewed"), _reviewed(opened, page)),
        (t("report.analysable"), f"{t.duration(s['analysable_s'])} ({_share(t, s['analysable_s'], s['duration_s'])})"),
        (t("report.beats_unusable"), t.count(s["unusable"])),
        (t("report.beats_failed"), t.count(s["failed"])),
    ]  # fmt: skip


def _reviewed(opened: Opened, page: Page) -> str:
    results = page.services.stores.results
    counts = results.review_counts(opened.model.model_version, page.reader.site, opened.recording_id)
    return page.words(
        "report.reviewed_of", done=sum(counts.values()) - counts.get(UNREVIEWED, 0), total=sum(counts.values())
    )


def _share(t: Words, part: float, whole: float) -> str:
    return f"{t.number(100 * part / whole if whole else 0.0)} %"


def _episode(
    page: Page, opened: Opened, episode: Mapping[str, Any], peak: int | None, states: Mapping[int, ReviewState]
) -> EpisodeStrip:
    t, paper = page.words, Paper()
    at = float(opened.beats.time_s[np.searchsorted(opened.beats.window_id, peak)]) if peak else episode["start_s"]
    start_s, end_s = stretch_around(opened, at, strip_length(paper, PRINT_MM))
    facts = [
        t("report.episode_beats", n=episode["n_beats"]),
        *([t.length(episode["end_s"] - episode["start_s"])] if episode["n_beats"] > 1 else []),
        t("report.episode_peak", score=t.number(episode["peak_score"])),
    ]
    if peak is not None:
        state = states[peak]
        said = t.term("status", state.status).lstrip("✓✕?⚡ ")
        facts.append(", ".join([said, *([t.term("label", state.label)] if state.label else []), *state.reviewers]))
    n_leads = sum(lead is not None for lead in opened.leads)
    strip = fit_on_page(lambda paper: plain_strip(page.services, opened, start_s, end_s, paper, t), n_leads)
    return EpisodeStrip(clock_text(opened, episode["start_s"], t), " · ".join(facts), strip)


def fit_on_page(draw: Callable[[Paper], Drawing], n_leads: int) -> Drawing:
    """A strip at 25 mm/s and 10 mm/mV; of more leads than a page has room for, at half the gain, as its line says."""
    strip = draw(Paper())
    if strip.height > PRINT_STRIP_MM:
        room = PRINT_STRIP_MM - BEATS_MM - CLOCK_MM
        strip = draw(Paper(gain=5.0, most_mm=room / n_leads / 2))
    return strip


def _reviews(page: Page, recording_id: int) -> tuple[str, list[str], list[list[str]]]:
    """Who said what how often; what was taken back does not count."""
    t = page.words
    said: dict[str, Counter[str]] = {}
    last: dict[str, datetime] = {}
    for row in page.services.stores.results.reviews(page.reader.site, recording_id=recording_id, limit=READ_REVIEWS):
        if row["action"] == "review" and row["undone_by"] is None:
            said.setdefault(row["reviewer"], Counter())[row["verdict"]] += 1
            last.setdefault(row["reviewer"], row["created_at"])
    rows = [
        [name, *(t.count(counts[verdict]) for verdict in ("confirm", "reject", "unsure")), t.moment(last[name])]
        for name, counts in sorted(said.items())
    ]
    header = [
        t("report.reader"),
        *(t(f"said.{verdict}") for verdict in ("confirm", "reject", "unsure")),
        t("report.last"),
    ]
    return t("report.reviews"), header, rows


def _unusable(opened: Opened, page: Page) -> tuple[str, list[str], list[list[str]]]:
    t = page.words
    seconds: defaultdict[tuple[str, str], float] = defaultdict(float)
    n: Counter[tuple[str, str]] = Counter()
    for span in opened.spans:
        key = (span.lead or "", span.reason)
        seconds[key] += span.end_s - span.start_s
        n[key] += 1
    rows = [
        [t.term("reason", reason), lead or t("report.all_leads"), t.count(n[lead, reason]), t.length(total)]
        for (lead, reason), total in sorted(seconds.items(), key=lambda item: -item[1])
    ]
    return (
        t("report.unusable"),
        [t("report.reason"), t("worklist.lead"), t("report.stretches"), t("report.length")],
        rows,
    )


def _longest(opened: Opened, page: Page) -> tuple[str, list[str], list[list[str]]]:
    t = page.words
    longest = sorted(opened.spans, key=lambda span: span.start_s - span.end_s)[:LONGEST_SPANS]
    rows = [
        [clock_text(opened, span.start_s, t), t.length(span.end_s - span.start_s),
         span.lead or t("report.all_leads"), t.term("reason", span.reason)]
        for span in sorted(longest, key=lambda span: span.start_s)
    ]  # fmt: skip
    return (
        t("report.longest", n=LONGEST_SPANS),
        [t("episode.start"), t("report.length"), t("worklist.lead"), t("report.reason")],
        rows,
    )
