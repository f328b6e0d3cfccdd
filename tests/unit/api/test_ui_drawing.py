"""What the page draws: scale, numbers, words."""

import re
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

from api.ui.drawing import Curve, Drawing, Text, runs
from api.ui.i18n import LANGUAGES, Words, catalogue, choose_language
from api.ui.page import local_path, with_query
from api.ui.paper import GAINS_MM_MV, SPEEDS_MM_S, Paper
from api.ui.report import fit_on_page
from api.ui.signal import Signal
from api.ui.strip import MARGIN_MM, Beat, Explained, StripContent, draw_strip, heat_bars
from api.ui.strip import Words as StripWords
from api.ui.threshold import make_curve
from api.ui.timeline import Beats, Span, View, draw_timeline
from api.ui.timeline import Words as TimelineWords

pytestmark = pytest.mark.unit

HERE = Path(__file__).parents[3] / "api" / "ui"
SVG = "{http://www.w3.org/2000/svg}"


def places(path: str) -> np.ndarray:
    """Corners of an SVG path of one run, absolute: (n, 2)."""
    first, _, steps = path.removeprefix("M").partition("l")
    start = np.array([float(v) for v in first.split()])
    moves = np.array([float(v) for v in steps.split()]).reshape(-1, 2)
    return np.vstack([start, start + np.cumsum(moves, axis=0)])


def strip_of(mv: np.ndarray, paper: Paper, **more: object) -> Drawing:
    signal = Signal(10.0, 180.0, mv.astype(np.float32))
    content = StripContent(10.0, 10.0 + len(mv) / 180, signal, ["MLII", None], **more)  # type: ignore[arg-type]
    return draw_strip(content, paper, StripWords("a strip", "caption", "unusable"))


@pytest.mark.parametrize("speed", SPEEDS_MM_S)
@pytest.mark.parametrize("gain", GAINS_MM_MV)
def test_a_strip_is_to_scale(speed: float, gain: float) -> None:
    mv = np.zeros((720, 2))
    mv[180, 0], mv[540, 0] = 1.0, -0.5  # at 1 s and at 3 s
    sheet = strip_of(mv, Paper(speed, gain))
    root = ElementTree.fromstring(sheet.svg("strip"))
    assert root.get("width") == f"{sheet.width:g}mm"
    assert root.get("viewBox") == f"0 0 {sheet.width:g} {sheet.height:g}"
    curve = places(next(e.get("d", "") for e in root.iter(f"{SVG}path") if e.get("class") == "signal"))
    assert len(curve) == 720
    assert curve[180, 0] - curve[0, 0] == pytest.approx(speed, abs=0.02)
    assert curve[540, 0] - curve[180, 0] == pytest.approx(2 * speed, abs=0.02)
    assert curve[0, 0] == pytest.approx(MARGIN_MM, abs=0.01)
    assert curve[0, 1] - curve[180, 1] == pytest.approx(gain, abs=0.02)
    assert curve[540, 1] - curve[0, 1] == pytest.approx(gain / 2, abs=0.02)
    pulse = places(next(e.get("d", "") for e in root.iter(f"{SVG}path") if e.get("class") == "pulse"))
    assert np.ptp(pulse[:, 1]) == pytest.approx(gain, abs=0.02)
    assert pulse[4, 0] - pulse[1, 0] == pytest.approx(0.2 * speed, abs=0.02)


@pytest.mark.parametrize(("n_leads", "gain", "height"), [(2, 10, 139), (12, 5, 240)])
def test_a_strip_of_many_leads_fits_on_a_page(n_leads: int, gain: int, height: float) -> None:
    mv = np.zeros((720, n_leads), np.float32)
    mv[100], mv[200] = 2.5, -2.5

    def draw(paper: Paper) -> Drawing:
        leads = [f"L{i}" for i in range(n_leads)]
        return draw_strip(StripContent(0, 4, Signal(0.0, 180.0, mv), leads), paper, StripWords("strip", "", ""))

    sheet = fit_on_page(draw, n_leads)
    assert sheet.facts["gain"] == f"{gain}"
    assert sheet.height == pytest.approx(height, abs=0.1)


def test_gaps_in_the_signal_are_gaps_on_paper() -> None:
    mv = np.zeros((360, 2))
    mv[100:120, 0] = np.nan
    root = ElementTree.fromstring(strip_of(mv, Paper()).svg())
    path = next(e.get("d", "") for e in root.iter(f"{SVG}path") if e.get("class") == "signal")
    assert path.count("M") == 2


def test_a_flagged_beat_is_marked_with_its_score_and_rr_is_in_milliseconds() -> None:
    beats = [Beat(10.2), Beat(11.0, 3.14, True, href="/ui/anomalies/1-2"), Beat(11.9, 4.0, True, target=True)]
    explained = Explained(11.5, np.zeros((144, 2), np.float32), np.full((144, 2), 9.0, np.float32), {})
    sheet = strip_of(np.zeros((720, 2)), Paper(), beats=beats, explained=explained)
    texts = [shape.text for shape in sheet.shapes if isinstance(shape, Text)]
    assert {"800", "900", "3.1", "4.0"} <= set(texts)
    svg = sheet.svg()
    assert 'href="/ui/anomalies/1-2"' in svg
    assert 'role="group"' in svg  # a picture's links would be hidden from screen readers
    assert svg.count("flag-target-score") == 1
    assert "heat-3" in svg
    assert "heat-4" not in svg


def test_heat_is_told_by_height_as_well_as_by_colour() -> None:
    bars = heat_bars(np.arange(5.0), np.float32([0, 2, 4, 8, 100]), 0.0, 5.0)
    heights = np.concatenate([bar.ends[:, 3] for bar in bars])
    assert [bar.style for bar in bars] == [f"heat-{i}" for i in range(5)]
    assert heights == pytest.approx([0.2, 0.625, 1.25, 2.5, 5.0])


def test_every_text_is_escaped() -> None:
    sheet = Drawing(10, 10, '"><script>')
    sheet.add(Text(1, 1, "<b>&", "x", href='/ui"onload='), Curve(np.array([[0.0, 0.0], [1.0, 1.0]]), "y"))
    svg = sheet.svg()
    assert "<script>" not in svg
    assert "<b>" not in svg
    assert ElementTree.fromstring(svg).find(f".//{SVG}text").text == "<b>&"  # type: ignore[union-attr]


def test_runs_are_between_nans() -> None:
    points = np.array([[0, 1], [1, 1], [2, np.nan], [3, 1], [4, np.nan], [5, 1], [6, 1]], float)
    assert [run[:, 0].tolist() for run in runs(points)] == [[0, 1], [5, 6]]


def beats_of(n: int, rr_s: float, flagged: list[int]) -> Beats:
    marks = np.isin(np.arange(n), flagged)
    return Beats(np.arange(n), np.arange(n) * rr_s, np.where(marks, 3.0, 0.5).astype(np.float32), marks)


def timeline_words() -> TimelineWords:
    return TimelineWords("a timeline", "rate", "flagged", "share", "unusable", lambda s, step: f"{s:g}", str)


def test_a_timeline_has_the_rate_the_flags_and_what_was_unusable() -> None:
    sheet = draw_timeline(
        beats_of(100, 0.75, [10, 50]), [Span(20.0, 30.0, "noise", None), Span(40.0, 45.0, "noise", "V1")],
        View(0.0, 75.0, 200.0), timeline_words(), lambda window: f"/beat/{window}",
    )  # fmt: skip
    svg = sheet.svg()
    assert re.findall(r'href="(/beat/\d+)"', svg) == ["/beat/10", "/beat/50"]
    assert svg.count("unusable-bar") == 1
    assert svg.count("unusable-lead") == 1
    assert beats_of(100, 0.75, []).rate_bpm()[10:20] == pytest.approx(80.0)


def test_a_rate_is_not_made_up_across_a_gap() -> None:
    beats = Beats(np.array([1, 2, 9, 10]), np.array([0.0, 1.0, 2.0, 3.0]), np.zeros(4, np.float32), np.zeros(4, bool))
    rate = beats.rate_bpm()
    assert np.isnan(rate[[0, 2]]).all()
    assert rate[[1, 3]] == pytest.approx(60.0)


def test_a_day_is_drawn_in_bins() -> None:
    n = 100_000
    sheet = draw_timeline(beats_of(n, 0.86, list(range(0, n, 5))), [], View(0.0, 86_000.0, 330.0), timeline_words())
    svg = sheet.svg()
    assert len(svg) < 150_000
    assert 300 <= svg.count("flag-bar") <= 320
    assert "rate-band" in svg


def test_a_bad_day_has_no_more_marks_than_one_can_see() -> None:
    spans = [Span(float(s), s + 0.5, "noise", None) for s in range(0, 86_000, 10)]
    svg = draw_timeline(beats_of(10, 1.0, []), spans, View(0.0, 86_000.0, 330.0), timeline_words()).svg()
    assert 300 < svg.count("unusable-bar") < 700


def test_the_threshold_curve_counts_beats_at_and_above() -> None:
    histogram = np.zeros(1001, np.int64)
    histogram[[0, 150, 151, 1000]] = [10, 3, 2, 1]  # scores 0, 1.5, 1.51 and 10 or more
    curve = make_curve(histogram, np.float32([1.5, 1.6, 3.0]), np.array([True, False, True]))
    at = {threshold: round(threshold / 0.05) for threshold in (0.0, 1.5, 1.55, 10.0)}
    assert [curve["flagged"][i] for i in at.values()] == [16, 6, 1, 1]
    assert [curve["confirmed"][i] for i in at.values()] == [2, 2, 1, 0]
    assert [curve["rejected"][i] for i in at.values()] == [1, 1, 1, 0]


def test_both_languages_say_the_same_things() -> None:
    english, portuguese = catalogue("en"), catalogue("pt")
    assert english.keys() == portuguese.keys()
    for key, text in english.items():
        fields = re.findall(r"{(\w+)}", text)
        assert sorted(fields) == sorted(re.findall(r"{(\w+)}", portuguese[key])), key


def test_every_key_that_is_used_exists() -> None:
    used = set()
    for path in [*HERE.glob("*.py"), *HERE.glob("templates/*.html")]:
        used |= set(re.findall(r"""\bt\(\s*['"]([\w.-]+)['"]\s*[,)]""", path.read_text(encoding="utf-8")))
    assert used
    assert used <= catalogue("en").keys()


def test_no_template_breaks_the_content_security_policy() -> None:
    for path in HERE.glob("templates/*.html"):
        text = path.read_text(encoding="utf-8")
        assert not re.search(r"\sstyle=|\son\w+=|https?://", text), path.name
        assert not re.search(r"<script(?![^>]*(src=|application/json))", text), path.name


def test_numbers_and_times_are_written_as_in_the_language() -> None:
    assert [Words(code).number(1234.5) for code in LANGUAGES] == ["1,234.5", "1.234,5"]
    assert Words("en")("report.episode_beats", n=1) == "one flagged beat"
    assert Words("pt")("report.episode_beats", n=1200) == "1.200 batimentos assinalados"
    assert [Words(code).duration(3725.46, fraction=True) for code in LANGUAGES] == ["1:02:05.5", "1:02:05,5"]
    assert [Words(code).plain(12.5) for code in LANGUAGES] == ["12.5", "12,5"]
    assert [Words(code).length(2.34) for code in LANGUAGES] == ["2.3 s", "2,3 s"]
    assert [Words("en").length(seconds) for seconds in (59.94, 59.96, 3725.0)] == ["59.9 s", "0:01:00", "1:02:05"]


@pytest.mark.parametrize(
    ("asked", "accepted", "language"),
    [("pt", "en", "pt"), (None, "pt-BR,pt;q=0.9,en;q=0.8", "pt"), (None, "fr,de", "en"), ("xx", "", "en")],
)
def test_language_is_chosen_then_negotiated(asked: str | None, accepted: str, language: str) -> None:
    assert choose_language(asked, accepted) == language


@pytest.mark.parametrize(
    "text", ["https://evil.example/", "//evil.example", "/ui\\evil", "/uix", "/docs", None, "", "/ui/\r\nSet-Cookie: a"]
)
def test_nobody_is_sent_elsewhere(text: str | None) -> None:
    assert local_path(text) == "/ui"


def test_local_paths_and_queries_are_kept() -> None:
    assert local_path("/ui/recordings/1?a=b") == "/ui/recordings/1?a=b"
    assert with_query("/ui", {"tab": "all", "lead": None}, sort="") == "/ui?tab=all"
