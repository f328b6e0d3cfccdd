"""Error analysis: the tables add up, the sheets are true to scale, and what people wrote in the document stays."""

import re
from dataclasses import replace
from xml.etree import ElementTree

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from configs.contract import FeatureSpec
from pipelines import errors
from pipelines.benchmark_data import to_dataset
from pipelines.error_beats import ScoredBeats, TestRecording, offsets
from pipelines.error_sheets import BEFORE_S, MM_A_MV, MM_A_SECOND, draw_sheet
from pipelines.error_tables import auc_lost, by_own_normals, error_tables, largest_losses, most_errors, without
from pipelines.learning_curve import PATIENTS, TRAINING_RECORDS, draws_of
from warehouse.signal.windows import empty_windows

pytestmark = pytest.mark.unit

SPEC = FeatureSpec()
N = 12
KINDS = np.array(list("NNNNNNNNVVFN"))
SCORES = np.array([0.1, 0.4, 2.0, 0.3, 0.2, 0.6, 1.8, 0.1, 3.0, 0.5, 1.0, 0.4])
THRESHOLD = 1.5


@pytest.fixture
def recording() -> TestRecording:
    rng = np.random.default_rng(0)
    shape = (N, SPEC.window_samples, SPEC.n_leads)
    windows = replace(
        empty_windows(SPEC),
        beat_index=np.arange(N),
        r_peak_s=0.5 + np.arange(N),
        samples=rng.integers(-900, 900, shape).astype(np.int16),
        lead_mask=np.ones((N, 2), bool),
        rr=np.tile(np.float32([1.0, 1.0, 1.0, 1.0, 0.02]), (N, 1)),
        template=np.full(shape, 100, np.int16),
        template_beats=np.full(N, 7, np.int16),
        quality=np.linspace(0.4, 1.0, N).astype(np.float32),
        symbol=KINDS,
        aami_class=KINDS,
    )
    signal = np.zeros((N * 180, 2), np.float32)
    signal[round(0.5 * 180) :: 180] = [1.0, -1.0]  # a peak of 1 mV at every beat
    signal[900:990] = np.nan
    return TestRecording("100", signal, ("MLII", "V1<"), windows, np.where(np.arange(N) == 3, np.nan, 0.008))


@pytest.fixture
def beats(recording) -> ScoredBeats:
    w = recording.windows
    return ScoredBeats(
        data=to_dataset(w, w.aami_class, recording.name, np.zeros(0, "<U4")),
        symbol=w.symbol,
        rate_bpm=np.where(np.arange(N) == 0, np.nan, 60.0),
        quality=w.quality,
        offset_ms=recording.offset_s * 1000,
        score=SCORES,
        parts=np.tile([0.25, -0.5, 1.0], (N, 1)),
    )


def test_what_the_beats_cost_adds_up_to_what_the_roc_auc_lacks():
    rng = np.random.default_rng(3)
    anomalous = rng.random(400) < 0.2
    score = np.round(rng.normal(size=400) + anomalous, 1)  # with ties
    lost = auc_lost(anomalous, score)
    lacking = 1 - roc_auc_score(anomalous, score)
    assert lost[anomalous].sum() == pytest.approx(lacking)
    assert lost[~anomalous].sum() == pytest.approx(lacking)
    assert lost[np.flatnonzero(anomalous)[score[anomalous].argmax()]] < lost[anomalous].max()


def test_every_table_counts_every_error_once(beats):
    tables = {table.name: table.rows for table in error_tables(beats, THRESHOLD)}
    assert list(tables) == [
        "AAMI class", "annotation symbol", "recording", "heart rate, per minute", "signal quality",
        "R peak found off by, ms",
    ]  # fmt: skip
    for rows in tables.values():
        totals = {key: sum(row[key] for row in rows) for key in ("normal", "false_alarms", "anomalous", "misses")}
        assert totals == {"normal": 9, "false_alarms": 2, "anomalous": 3, "misses": 2}
    assert [row["group"] for row in tables["heart rate, per minute"]] == ["60 to 70", "unknown"]
    assert [row["group"] for row in tables["R peak found off by, ms"]] == ["6 to 12", "not found"]
    assert next(row["normal"] for row in tables["signal quality"]) == 2  # 0.40 and 0.45
    found = {row["group"]: row["misses"] for row in tables["AAMI class"]}
    assert found == {"N": 0, "V": 1, "F": 1}


def test_losses_name_recording_and_class_and_leaving_beats_out_is_measured(beats):
    losses = largest_losses(beats)
    assert [group["group"] for group in losses["anomalous"]] == ["100 V", "100 F"]
    assert losses["anomalous"][0]["own_roc_auc"] == losses["anomalous"][0]["roc_auc"]  # there is one recording
    assert by_own_normals(beats)["roc_auc"] == pytest.approx(roc_auc_score(KINDS != "N", SCORES))
    rows = without(beats, {"F beats": KINDS == "F"})
    assert [row["beats"] for row in rows] == [0, 1]
    assert rows[1]["roc_auc"] == pytest.approx(roc_auc_score(KINDS[KINDS != "F"] == "V", SCORES[KINDS != "F"]))


def test_most_errors_say_what_they_were_made_of(beats):
    found = most_errors(beats, THRESHOLD)
    alarm = found["false alarms"][0]
    assert (alarm["group"], alarm["errors"], alarm["beats"]) == ("100 N", 2, 9)
    assert (alarm["shape"], alarm["context"], alarm["timing"], alarm["early"]) == (0.25, -0.5, 1.0, 0.0)
    assert [row["group"] for row in found["misses"]] == ["100 F", "100 V"]


def test_the_worst_are_the_highest_normal_and_the_lowest_anomalous_scores(beats):
    assert errors.worst(KINDS != "N", SCORES, THRESHOLD, 50) == {"false alarms": [2, 6], "misses": [9, 10]}
    assert errors.worst(KINDS != "N", SCORES, THRESHOLD, 1) == {"false alarms": [2], "misses": [9]}


def test_strips_are_drawn_to_scale_with_neighbours_and_template(beats, recording):
    sheet = draw_sheet("Worst & first", [9, 5], beats, {"100": recording}, SPEC)
    svg = ElementTree.fromstring(sheet)
    width = float(svg.get("viewBox").split()[2])
    assert svg.get("width") == f"{width:g}mm"  # one unit is a millimetre
    texts = [node.text for node in svg.iter() if node.tag.endswith("text")]
    assert "100 at 0:09.50: V (V), score 0.50, R peak +8 ms" in texts
    assert "shape 0.25 context -0.50 timing 1.00; 60/min, quality 0.89" in texts
    assert texts.count("F") == 1  # the beat after the first strip's
    paths = [n for n in svg.iter() if n.tag.endswith("path") and n.get("class") == "p"]
    assert len(paths) == 4
    assert len([n for n in svg.iter() if n.get("class") == "t"]) == 4
    points, unit = drawn(paths[0])
    assert points[:, 0].max() * unit == pytest.approx(3.0 * MM_A_SECOND, abs=0.2)
    peak = points[points[:, 1].argmin()]
    assert -peak[1] * unit == pytest.approx(1.0 * MM_A_MV, abs=0.1)
    from_beat_s = peak[0] * unit / MM_A_SECOND - BEFORE_S
    assert from_beat_s == pytest.approx(round(from_beat_s), abs=0.01)  # beats are 1 s apart
    assert paths[2].get("d").count("M") == 2  # broken where there is no sample


def drawn(path) -> tuple[np.ndarray, float]:
    """Points of a curve's first stretch, and millimetres a unit."""
    start, steps = re.match(r"M(\d+ -?\d+)l([^M]*)", path.get("d")).groups()
    numbers = [int(n) for n in re.findall(r"-?\d+", f"{start} {steps}")]
    unit = float(re.search(r"scale\(([\d.]+)\)", path.get("transform")).group(1))
    return np.cumsum(np.reshape(numbers, (-1, 2)), axis=0), unit


def test_the_nearest_found_r_peak_within_150_ms_counts():
    found = offsets(np.array([1.02, 2.2, 4.9, 5.05]), np.array([1.0, 2.0, 5.0]))
    np.testing.assert_allclose(found, [0.02, np.nan, 0.05])
    assert np.isnan(offsets(np.zeros(0), np.array([1.0]))).all()


def test_a_larger_draw_holds_the_smaller_one_and_no_patient_twice():
    for smaller, larger in zip(draws_of(3, 4), draws_of(12, 4), strict=True):
        assert len(set(larger)) == 12
        assert set(smaller) <= set(larger) <= set(TRAINING_RECORDS)
    assert len(set(draws_of(3, 4))) == 4
    assert PATIENTS[-1] == len(TRAINING_RECORDS) == 18


def test_what_people_wrote_around_the_figures_stays(tmp_path, beats):
    figures = errors.examine(beats, THRESHOLD) | {"seed": 1, "false_alarm_rate": 0.03}
    learning = [
        {"patients": n, "draw": d, "roc_auc": 0.9 + d / 100, "average_precision": 0.8} for n in (3, 6) for d in (1, 2)
    ]
    text = errors.as_markdown(figures | {"learning": learning})
    assert "| 3 | 2 | 0.9150 ± 0.0050 | 0.8000 ± 0.0000 |" in text
    assert "| V | 0 |  | 2 | 1 (50.0%) |" in text
    file = tmp_path / "docs" / "errors.md"
    errors.write_between(file, "old")
    file.write_text(file.read_text().replace("# Errors", "# Mine\n\nWords.") + "\nMore words.\n")
    errors.write_between(file, text)
    content = file.read_text()
    assert content.startswith("# Mine\n\nWords.\n")
    assert content.endswith("More words.\n")
    assert text in content
    assert "old" not in content
