"""What another threshold would flag, before anything changes."""

from collections.abc import Mapping
from typing import Annotated, Any, Final

import numpy as np
import numpy.typing as npt
from fastapi import APIRouter, Query
from fastapi.responses import HTMLResponse

from api.ui.drawing import Box, Drawing, Lines, Text
from api.ui.page import Page, PageDep
from warehouse.store.summary_queries import BIN

STEP: Final = 0.05  # of the slider
EVERY: Final = round(STEP / BIN)
HEIGHT_MM: Final = 42.0
LEFT_MM: Final = 4.0

router = APIRouter(include_in_schema=False)

Counts = npt.NDArray[np.int64]


@router.get("/ui/threshold")
def threshold(
    page: PageDep, value: Annotated[float | None, Query(alias="threshold", ge=0, le=1000, allow_inf_nan=False)] = None
) -> HTMLResponse:
    """The slider, with its numbers for every place it can be at."""
    results, site = page.services.stores.results, page.reader.site
    model = page.services.models.stable()
    histogram = results.score_histogram(model.model_version, site)
    score, confirmed = results.reviewed_scores(model.model_version, site)
    curve = make_curve(histogram, score, confirmed)
    hours = results.site_totals(model.model_version, site)["analysable_s"] / 3600
    at = int(np.clip(round((model.threshold if value is None else value) / STEP), 0, len(curve["flagged"]) - 1))
    own = figures_at(results, model.model_version, site, model.threshold)
    return page.html(
        "threshold.html", model=model, curve=curve, at=at, step=STEP, hours=hours, total=int(histogram.sum()), own=own,
        chart=draw_histogram(page, histogram, model.threshold, at * STEP),
    )  # fmt: skip


def figures_at(results: Any, model_version: int, site: str, threshold: float) -> Mapping[str, int]:
    """What the model's own threshold flags, exactly: not rounded to the slider's step."""
    judged = results.judged(model_version, site)
    return {"flagged": judged.flagged, "confirmed": judged.confirmed, "rejected": judged.rejected}


def make_curve(
    histogram: Counts, score: npt.NDArray[np.float32], confirmed: npt.NDArray[np.bool_]
) -> dict[str, list[int]]:
    """Beats at or above each threshold 0, `STEP`, ...: all scored ones, and of the reviewed ones both verdicts.

    Args:
        histogram: scores in bins of `BIN`, the last takes all above: int64 (bins,).
        score, confirmed: of the reviewed beats, (n,).
    """
    above = np.cumsum(histogram[::-1])[::-1][::EVERY]
    thresholds = np.arange(len(above)) * STEP

    def at_or_above(scores: npt.NDArray[np.float32]) -> list[int]:
        ranked = np.sort(scores.astype(np.float64))
        found: list[int] = (len(ranked) - np.searchsorted(ranked, thresholds - 1e-6, side="left")).tolist()
        return found

    return {
        "flagged": above.tolist(),
        "confirmed": at_or_above(score[confirmed]),
        "rejected": at_or_above(score[~confirmed]),
    }


def draw_histogram(page: Page, histogram: Counts, own: float, chosen: float) -> Drawing:
    """Scored beats by score, logarithmic, with the model's own threshold and the chosen one."""
    t, width = page.words, page.width_mm
    bars = histogram[: len(histogram) // EVERY * EVERY].reshape(-1, EVERY).sum(axis=1)
    bars[-1] += histogram[len(bars) * EVERY :].sum()
    wide = (width - 2 * LEFT_MM) / len(bars)
    sheet = Drawing(round(width, 2), HEIGHT_MM, t("threshold.chart"))
    sheet.facts = {"x0": LEFT_MM, "wide": f"{wide:.5f}"}
    floor, room = HEIGHT_MM - 6, HEIGHT_MM - 10
    most = np.log10(max(int(bars.max()), 1) + 1)
    for i in np.flatnonzero(bars).tolist():
        tall = float(np.log10(bars[i] + 1) / most * room)
        style = "flag-bar" if (i + 1) * STEP > own + 1e-9 else "quiet-bar"
        title = f"{t.number(i * STEP, 2)}: {t.count(int(bars[i]))}"
        sheet.add(Box(LEFT_MM + i * wide, floor - tall, wide * 0.85, tall, style, title))
    sheet.add(Lines(np.array([(LEFT_MM, floor, width - LEFT_MM, floor)]), "r-tick"))
    for score in range(0, int(len(bars) * STEP) + 1):
        sheet.add(Text(LEFT_MM + score / STEP * wide, HEIGHT_MM - 2, str(score), "axis", "middle"))
    x = LEFT_MM + own / STEP * wide
    sheet.add(Lines(np.array([(x, 2, x, floor)]), "own-threshold"))
    x = LEFT_MM + chosen / STEP * wide
    sheet.add(Box(x - 0.2, 2, 0.4, floor - 2, "chosen-threshold"))
    return sheet
