"""Windows: leads, geometry, RR context, running template, accounting of time, independence of the block length."""

from dataclasses import dataclass, fields, replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from configs.contract import FeatureSpec
from configs.errors import ConfigurationError, SourceError
from warehouse.signal.context import RrContext, RunningTemplate, comes_early
from warehouse.signal.coverage import SpanMerger, TimeAccount, account, check_coverage
from warehouse.signal.ecg import BeatAnnotations, Reason, RecordingHeader, UnusableSpan, Windows
from warehouse.signal.simulate import simulate_recording
from warehouse.signal.windows import choose_leads, concatenate, cut_windows

pytestmark = pytest.mark.unit

SPEC = FeatureSpec()
UNHURRIED = np.tile(np.float32([0.8, 0.8, 0.8, 0.8, 0.02]), (100, 1))  # RR context of beats that are not early
RATE = 250.0


@dataclass
class ArraySource:
    """A recording in an array."""

    samples: np.ndarray
    rate_hz: float = RATE
    leads: tuple = ("MLII", "V1")
    beats: BeatAnnotations | None = None

    @property
    def header(self):
        n = len(self.samples)
        return RecordingHeader("array", "csv", "array.csv", "array", self.rate_hz, self.leads, n, "0" * 64)

    def read(self, start, stop):
        assert 0 <= start < stop <= len(self.samples)
        return self.samples[start:stop]

    def annotations(self):
        return self.beats


def simulated(duration_s=120, rate_hz=RATE, seed=7, leads=("MLII", "V1"), **trouble):
    source = simulate_recording(
        name="s", duration_s=duration_s, sampling_rate_hz=rate_hz, leads=leads, seed=seed, **trouble
    )
    return ArraySource(source.samples.copy(), rate_hz, leads, source.beats)


def cut(source, spec=SPEC, block_s=900.0, **options):
    chunks = list(cut_windows(source, spec, block_s=block_s, **options))
    windows = concatenate([chunk.windows for chunk in chunks])
    rejected = [beat for chunk in chunks for beat in chunk.rejected]
    return windows, rejected, [span for chunk in chunks for span in chunk.unusable]


def lost(spans):
    return [span for span in spans if span.lead is None]


# --- leads


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["MLII", "V1"], [0, 1]),
        (["V5", "MLII"], [1, 0]),
        (["i", "ii", "iii", "avr", "avl", "avf", "v1", "v2", "v3", "v4", "v5", "v6"], [1, 6]),
        (["ECG II", "Lead V5"], [0, 1]),
        (["V5", "V2"], [1, 0]),  # the second slot prefers V5; the first takes what is left
        (["ECG"], [0, None]),
        (["V1"], [None, 0]),
        ([], [None, None]),
        (["V1", "aVR", "X"], [1, 0]),
        (["II", "II"], [0, 1]),
    ],
)
def test_choose_leads(names, expected):
    assert choose_leads(names, SPEC) == expected


# --- geometry


def test_windows_hold_the_band_passed_signal_around_the_r_peak():
    """A narrow pulse a second: its top is at sample `before_samples`, in microvolts."""
    time = np.arange(int(59.6 * RATE)) / RATE
    beats = np.arange(0.8, 59.3)
    pulse = np.exp(-((time[:, None] - beats) ** 2) / (2 * 0.015**2)).sum(axis=1)
    x = np.stack([1.5 * pulse, -0.5 * pulse], axis=1).astype(np.float32)
    source = ArraySource(x, beats=BeatAnnotations(beats, np.full(len(beats), "N")))
    windows, rejected, spans = cut(source)
    assert len(windows) == len(beats)
    assert not rejected
    assert windows.samples.shape == (59, SPEC.window_samples, 2)
    assert windows.samples.dtype == np.int16
    assert (windows.samples[:, :, 0].argmax(axis=1) == SPEC.before_samples).all()
    assert (windows.samples[:, :, 1].argmin(axis=1) == SPEC.before_samples).all()
    height = windows.samples[:, SPEC.before_samples, 0] - np.median(windows.samples[:, :, 0], axis=1)
    assert np.abs(height - 1500).max() < 40
    assert np.array_equal(windows.r_peak_s, beats)
    assert set(windows.aami_class) == {"N"}
    assert windows.lead_mask.all()
    assert lost(spans) == []


@pytest.mark.parametrize("rate_hz", [50.0, 128.0, 257.3, 360.0, 1000.0, 2000.0])
def test_any_rate_gives_the_same_windows(rate_hz):
    """The same patient without noise, recorded at different rates; 50 Hz cannot hold more than 22 Hz."""
    reference, *_ = cut(simulated(40, 500.0, noise_mv=0.0, leads=("MLII",)))
    windows, *_ = cut(simulated(40, rate_hz, noise_mv=0.0, leads=("MLII",)))
    assert np.allclose(windows.r_peak_s, reference.r_peak_s)
    error = np.abs(windows.samples.astype(int) - reference.samples)[:, :, 0]
    assert np.median(error) < 10
    assert np.percentile(error, 99) < (80 if rate_hz < 100 else 35)


def test_empty_slot_is_masked_and_zero():
    windows, _, spans = cut(simulated(30, leads=("V2",)))
    assert windows.lead_mask.tolist() == [[False, True]] * len(windows)
    assert (windows.samples[:, :, 0] == 0).all()
    assert (windows.template[:, :, 0] == 0).all()
    assert windows.template_beats[-1] == len(windows) - 1
    assert spans == []


def test_labels_come_from_the_annotations():
    windows, *_ = cut(simulated(120, pvc_rate=0.1, pac_rate=0.1))
    classes = dict(zip(windows.symbol.tolist(), windows.aami_class.tolist(), strict=True))
    assert classes == {"N": "N", "V": "V", "A": "S"}


def test_annotations_that_are_no_beats_are_skipped():
    source = simulated(30)
    time_s, symbol = source.beats.time_s, source.beats.symbol
    mixed = BeatAnnotations(np.concatenate([[0.05, 3.3], time_s]), np.concatenate([["+", "~"], symbol]))
    order = np.argsort(mixed.time_s)
    with_marks, *_ = cut(replace(source, beats=BeatAnnotations(mixed.time_s[order], mixed.symbol[order])))
    without, *_ = cut(source)
    assert np.array_equal(with_marks.beat_index, without.beat_index)
    assert np.array_equal(with_marks.rr, without.rr)


def test_unlabelled_when_annotations_are_not_used():
    windows, *_ = cut(simulated(30), use_annotations=False)
    assert set(windows.aami_class) == {"U"}
    assert set(windows.symbol) == {""}


def test_beats_at_the_ends_are_rejected_as_edge():
    source = simulated(30)
    beats = np.array([0.2, 5.0, 15.0, 29.7])
    windows, rejected, spans = cut(replace(source, beats=BeatAnnotations(beats, np.array(["N", "N", "V", "A"]))))
    assert windows.beat_index.tolist() == [1, 2]
    assert [(beat.beat_index, beat.reason, beat.symbol) for beat in rejected] == [
        (0, Reason.EDGE, "N"),
        (3, Reason.EDGE, "A"),
    ]
    assert spans[0] == UnusableSpan(0.0, 1.7, Reason.EDGE)
    assert spans[-1] == UnusableSpan(28.2, 30.0, Reason.EDGE)


# --- trouble


def test_a_lost_lead_masks_its_windows_and_costs_no_time():
    windows, rejected, spans = cut(simulated(120, electrode_loss=[("V1", 30.0, 60.0)]))
    inside = (windows.r_peak_s > 31) & (windows.r_peak_s < 59)
    outside = (windows.r_peak_s < 29) | (windows.r_peak_s > 61)
    assert windows.lead_mask[inside].tolist() == [[True, False]] * inside.sum()
    assert (windows.samples[inside][:, :, 1] == 0).all()
    assert windows.lead_mask[outside].all()
    assert not rejected
    assert lost(spans) == []
    assert [(span.lead, span.reason) for span in spans] == [("V1", Reason.LEAD_OFF)]
    assert spans[0].start_s == pytest.approx(30.0, abs=0.2)
    assert spans[0].end_s == pytest.approx(60.0, abs=0.2)


def test_a_gap_in_all_leads_is_unusable_to_the_sample_and_breaks_rr():
    source = simulated(60, heart_rate_bpm=75)
    source.samples[int(20 * RATE) : int(21.2 * RATE)] = np.nan
    windows, rejected, spans = cut(source)
    gap = [span for span in lost(spans) if span.reason is Reason.GAP]
    assert gap[0].start_s <= 20.0
    assert gap[-1].end_s >= 21.2
    assert {beat.reason for beat in rejected if 1 < beat.r_peak_s < 59} == {Reason.GAP}
    after = int(np.argmax(windows.r_peak_s > 21.2))
    before = after - 1
    assert windows.rr[before, 1] == 0 or windows.rr[after, 0] == 0
    assert windows.rr[after + 1, 0] > 0
    assert sum(span.end_s - span.start_s for span in lost(spans)) < 4


def test_noise_in_all_leads_rejects_beats_with_words():
    source = simulated(60)
    noise = np.random.default_rng(0).standard_normal(source.samples.shape).astype(np.float32)
    source.samples[int(20 * RATE) : int(30 * RATE)] += 2 * noise[int(20 * RATE) : int(30 * RATE)]
    _, rejected, _ = cut(source)
    rejected = [beat for beat in rejected if 1 < beat.r_peak_s < 59]
    assert len(rejected) >= 8
    assert {beat.reason for beat in rejected} == {Reason.NOISE}
    assert rejected[0].detail == "MLII: noise; V1: noise"


def nothing(duration_s, value=np.nan, leads=("MLII", "V1")):
    return ArraySource(np.full((int(duration_s * RATE), len(leads)), value, dtype=np.float32), leads=leads)


@pytest.mark.parametrize("use_annotations", [True, False])
@pytest.mark.parametrize(
    ("source", "reason"),
    [
        (nothing(60), Reason.GAP),
        (nothing(60, 0.0), Reason.FLAT_LINE),
        (nothing(0.8), Reason.TOO_SHORT),
        (ArraySource(np.zeros((1, 2), np.float32)), Reason.TOO_SHORT),
        (nothing(10, leads=()), Reason.NO_LEAD),
        (replace(simulated(0.6), beats=None), Reason.TOO_SHORT),
    ],
    ids=["all NaN", "all zero", "0.8 s", "one sample", "no leads", "0.6 s of ECG"],
)
def test_nothing_to_cut_is_reported_as_such(source, reason, use_annotations):
    windows, rejected, spans = cut(source, use_annotations=use_annotations)
    assert len(windows) == 0
    assert windows.samples.shape == (0, SPEC.window_samples, 2)
    assert rejected == []
    assert spans == [UnusableSpan(0.0, source.header.duration_s, reason)]


def test_no_samples_at_all():
    windows, rejected, spans = cut(ArraySource(np.zeros((0, 2), np.float32)))
    assert (len(windows), rejected, spans) == (0, [], [])


def test_no_beat_in_good_signal_is_reported():
    slow = (0.3 * np.sin(2 * np.pi * 1.0 * np.arange(int(60 * RATE)) / RATE)).astype(np.float32)
    source = ArraySource(np.stack([slow, slow], axis=1), beats=BeatAnnotations(np.array([10.0]), np.array(["N"])))
    windows, _, spans = cut(source)
    assert len(windows) == 1
    assert spans == [UnusableSpan(0.0, 8.5, Reason.NO_BEAT), UnusableSpan(11.5, 60.0, Reason.NO_BEAT)]


def test_beats_of_a_recording_without_leads_are_rejected_with_the_reason():
    source = replace(nothing(10, leads=()), beats=BeatAnnotations(np.array([1.0, 2.0]), np.array(["N", "V"])))
    _, rejected, _ = cut(source)
    assert [(beat.beat_index, beat.symbol, beat.reason) for beat in rejected] == [
        (0, "N", Reason.NO_LEAD),
        (1, "V", Reason.NO_LEAD),
    ]


def test_wrong_detector_and_wrong_rate_say_so():
    with pytest.raises(ConfigurationError, match=r"ingest\.detector: unknown R-peak detector 'nosuch'"):
        cut(simulated(30), detector="nosuch")
    with pytest.raises(SourceError, match="10 Hz is too low"):
        cut(ArraySource(np.zeros((1000, 2), np.float32), rate_hz=10.0))


# --- RR context


def naive_rr(r_peaks, max_rr_s):
    """The columns beat by beat, straight from the contract's words."""
    rows, known, changes = [], [], []
    for i, r in enumerate(r_peaks):
        prev = r - r_peaks[i - 1] if i and r - r_peaks[i - 1] <= max_rr_s else 0.0
        following = r_peaks[i + 1] - r if i + 1 < len(r_peaks) and r_peaks[i + 1] - r <= max_rr_s else 0.0
        median = np.median(known[-10:]) if len(known) >= 3 else 0.0
        p90 = np.percentile(known[-60:], 90) if len(known) >= 3 else 0.0
        last = [c for c in changes[-60:] if c is not None]
        rows.append([prev, following, median, p90, np.median(last) if len(last) >= 5 else 0.0])
        if prev:
            known.append(prev)
            changes.append(abs(np.log(prev / median)) if median else None)
    return np.array(rows)


def test_rr_columns_are_as_the_contract_says():
    source = simulated(300, pvc_rate=0.1, pause_rate=0.03)
    windows, rejected, _ = cut(source, block_s=60)
    expected = naive_rr(source.beats.time_s, SPEC.max_rr_s)
    assert len(windows) + len(rejected) == len(expected)
    assert (expected[5:, 0] == 0).any()  # a pause beyond max_rr_s is among them
    assert np.abs(windows.rr - expected[windows.beat_index]).max() < 1e-5


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.sampled_from([0.0, 0.4, 0.7, 0.8, 1.1, 1.9]), max_size=150),
    st.lists(st.integers(0, 150), max_size=4),
)
def test_rr_context_does_not_depend_on_where_it_is_cut(rr, cuts):
    rr = np.array(rr)
    whole = RrContext(SPEC).extend(rr)
    context, parts = RrContext(SPEC), []
    for part in np.split(rr, sorted(c for c in cuts if c <= len(rr))):
        parts.append(context.extend(part))
    joined = np.concatenate(parts)
    assert np.array_equal(joined[:, [0, 2, 3, 4]], whole[:, [0, 2, 3, 4]])


# --- template


def test_template_is_the_median_of_the_windows_before_that_did_not_come_early():
    source = simulated(120, pvc_rate=0.1)
    windows, *_ = cut(source)
    early = comes_early(windows.rr, SPEC)
    assert early[windows.symbol == "V"].all()
    assert early.sum() < 0.4 * len(early)
    for i in (5, 12, 40, 60, len(windows) - 1):
        enters = np.flatnonzero(~early[:i])[-SPEC.template_beats :]
        expected = np.rint(np.median(windows.samples[enters].astype(np.float32), axis=0))
        if len(enters) < 5:
            assert windows.template_beats[i] == 0
            assert not windows.template[i].any()
        else:
            assert windows.template_beats[i] == len(enters)
            assert np.array_equal(windows.template[i], expected)
    assert windows.template_beats[-1] == SPEC.template_beats


def test_an_hour_of_bigeminy_does_not_become_the_template():
    n, rng = 4000, np.random.default_rng(0)
    narrow = np.exp(-0.5 * ((np.arange(SPEC.window_samples) - SPEC.before_samples) / 3) ** 2)
    wide = -np.exp(-0.5 * ((np.arange(SPEC.window_samples) - SPEC.before_samples) / 12) ** 2)
    ectopic = np.arange(n) % 2 == 1
    ectopic[:40] = False
    shape = np.where(ectopic[:, None], wide, narrow) * 1000
    samples = np.rint(np.repeat(shape[:, :, None], 2, axis=2) + rng.normal(0, 5, (n, SPEC.window_samples, 2)))
    rr_s = np.where(ectopic, 0.55, np.where(np.roll(ectopic, 1), 1.05, 0.8))
    rr = RrContext(SPEC).extend(rr_s)
    template, _ = RunningTemplate(SPEC).extend(samples.astype(np.int16), np.ones((n, 2), bool), rr)
    assert np.abs(template[-1, :, 0] - narrow * 1000).max() < 20


def test_template_of_a_lead_is_made_of_its_usable_windows_only():
    spec = FeatureSpec(template_beats=7)
    rng = np.random.default_rng(0)
    samples = rng.integers(-500, 500, (40, spec.window_samples, 2)).astype(np.int16)
    mask = np.ones((40, 2), dtype=bool)
    mask[3:20, 1] = False
    template, beats = RunningTemplate(spec).extend(samples, mask, UNHURRIED[:40])
    assert beats[9] == 7
    assert (beats[10:20] == 7).all()  # the lead that is there has all of its windows
    assert beats[20:22].tolist() == [0, 0]  # the lead that came back has three and four
    assert (template[20:22] == 0).all()
    assert beats[22:25].tolist() == [5, 6, 7]
    assert np.array_equal(template[23, :, 1], np.rint(np.median(samples[[0, 1, 2, 20, 21, 22], :, 1], axis=0)))
    assert np.array_equal(template[23, :, 0], np.rint(np.median(samples[16:23, :, 0], axis=0)))


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 60), st.lists(st.integers(0, 60), max_size=4), st.integers(0, 2**16))
def test_template_does_not_depend_on_where_it_is_cut(n, cuts, seed):
    rng = np.random.default_rng(seed)
    spec = FeatureSpec(before_ms=20, after_ms=30, template_beats=20)
    samples = rng.integers(-500, 500, (n, spec.window_samples, 2)).astype(np.int16)
    mask = rng.random((n, 2)) < 0.8
    samples = np.where(mask[:, None, :], samples, 0).astype(np.int16)
    rr = RrContext(spec).extend(rng.choice([0.0, 0.5, 0.8, 0.82], n))
    whole = RunningTemplate(spec).extend(samples, mask, rr)
    running, parts = RunningTemplate(spec), []
    bounds = [0, *sorted(c for c in cuts if c <= n), n]
    for start, stop in pairwise(bounds):
        parts.append(running.extend(samples[start:stop], mask[start:stop], rr[start:stop]))
    assert np.array_equal(np.concatenate([part[0] for part in parts]), whole[0])
    assert np.array_equal(np.concatenate([part[1] for part in parts]), whole[1])


# --- accounting


@st.composite
def accounts(draw):
    duration_s = draw(st.floats(5, 200))
    r_peaks = np.unique(draw(st.lists(st.floats(0, duration_s, exclude_max=True), max_size=60)))
    rejected = draw(st.lists(st.sampled_from([None, None, Reason.NOISE, Reason.EDGE]), min_size=60, max_size=60))
    edges = sorted(set(draw(st.lists(st.floats(0, duration_s), max_size=12))))
    reasons = st.sampled_from([Reason.GAP, Reason.FLAT_LINE, Reason.NOISE])
    bad = [UnusableSpan(a, b, draw(reasons)) for a, b in zip(edges[::2], edges[1::2], strict=False) if b > a]
    return duration_s, r_peaks, rejected[: len(r_peaks)], bad


@settings(max_examples=200, deadline=None)
@given(accounts())
def test_every_second_is_windowed_or_unusable(case):
    duration_s, r_peaks, rejected, bad = case
    windowed, spans = account(0.0, duration_s, r_peak_s=r_peaks, rejected=rejected, bad=bad, max_rr_s=3.0)
    assert check_coverage(duration_s, windowed, spans) == []
    for start_s, end_s in windowed:
        middle = (start_s + end_s) / 2
        accepted = [r for r, reason in zip(r_peaks, rejected, strict=True) if reason is None]
        assert min(abs(r - middle) for r in accepted) <= 1.5 + (end_s - start_s) / 2
        assert not any(span.start_s < middle < span.end_s for span in bad)
    assert all(a.reason is not b.reason or a.end_s < b.start_s for a, b in pairwise(spans))


@settings(max_examples=100, deadline=None)
@given(accounts(), st.integers(1, 6))
def test_accounting_block_by_block_gives_the_same(case, n_blocks):
    duration_s, r_peaks, rejected, _ = case
    rate_hz, n = 20.0, int(duration_s * 20)
    code = np.zeros((n, 2), dtype=np.uint8)
    code[n // 5 : n // 3] = 6
    code[n // 2 : n // 2 + 7, 0] = 1

    def run(bounds):
        time, spans = TimeAccount(["a", "b"], sampling_rate_hz=rate_hz, max_rr_s=3.0), []
        for start, stop in pairwise(bounds):
            last = stop == n
            here = (r_peaks >= start / rate_hz) & ((r_peaks < stop / rate_hz) | last)
            spans += time.extend(
                code[start:stop], first_sample=start, end_s=stop / rate_hz, last=last,
                r_peak_s=r_peaks[here], rejected=[r for r, i in zip(rejected, here, strict=True) if i],
            )  # fmt: skip
        return spans

    whole = run([0, n])
    blocks = run(sorted({0, n, *(n * k // n_blocks for k in range(n_blocks))}))
    assert lost(blocks) == lost(whole)
    assert sorted(map(str, blocks)) == sorted(map(str, whole))


def test_check_coverage_names_what_is_wrong():
    gap = UnusableSpan(4.0, 6.0, Reason.GAP)
    assert check_coverage(10.0, [(0.0, 4.0), (6.0, 10.0)], [gap, UnusableSpan(1.0, 2.0, Reason.NOISE, "II")]) == []
    assert check_coverage(10.0, [(0.0, 3.0), (6.0, 10.0)], [gap]) == ["hole between 3 s and 4 s"]
    assert check_coverage(10.0, [(0.0, 5.0), (6.0, 10.0)], [gap]) == ["overlap between 5 s and 4 s"]
    assert check_coverage(10.0, [(0.0, 4.0)], [gap]) == ["ends at 6 s, not at 10 s"]


def test_spans_of_one_reason_that_touch_are_one():
    merger = SpanMerger()
    assert merger.add([UnusableSpan(0.0, 1.0, Reason.GAP)]) == []
    assert merger.add([UnusableSpan(1.0, 2.0, Reason.GAP), UnusableSpan(2.0, 3.0, Reason.NOISE)]) == [
        UnusableSpan(0.0, 2.0, Reason.GAP)
    ]
    assert merger.close() == [UnusableSpan(2.0, 3.0, Reason.NOISE)]
    assert merger.close() == []


# --- blocks


def troubled():
    source = simulated(400, rate_hz=257.3, pvc_rate=0.05, pause_rate=0.02, electrode_loss=[("V1", 100.0, 190.0)])
    rng = np.random.default_rng(4)
    for start_s, length_s in ((29.0, 2.0), (118.5, 4.5), (238.0, 9.9), (299.95, 0.1), (330.0, 35.0)):
        source.samples[int(start_s * 257.3) : int((start_s + length_s) * 257.3)] = np.nan
    burst = slice(int(200 * 257.3), int(215 * 257.3))
    source.samples[burst] += 2 * rng.standard_normal(source.samples[burst].shape).astype(np.float32)
    return source


@pytest.mark.parametrize("use_annotations", [True, False])
@pytest.mark.parametrize("block_s", [30.0, 60.0, 100.0])
def test_the_block_length_does_not_matter(block_s, use_annotations):
    whole, whole_rejected, whole_spans = cut(troubled(), block_s=900.0, use_annotations=use_annotations)
    parts, rejected, spans = cut(troubled(), block_s=block_s, use_annotations=use_annotations)
    assert len(whole) > 300
    for name in ("beat_index", "r_peak_s", "lead_mask", "rr", "template_beats", "symbol", "aami_class"):
        assert np.array_equal(getattr(parts, name), getattr(whole, name)), name
    assert np.abs(parts.samples.astype(int) - whole.samples).max() <= 5
    assert np.abs(parts.template.astype(int) - whole.template).max() <= 5
    assert np.abs(parts.quality - whole.quality).max() < 1e-3
    assert rejected == whole_rejected
    assert lost(spans) == lost(whole_spans)
    assert sorted(map(str, spans)) == sorted(map(str, whole_spans))


def test_time_of_a_troubled_recording_adds_up():
    source = troubled()
    windows, rejected, spans = cut(source, block_s=60)
    unusable = lost(spans)
    assert [span for span in unusable if span.end_s <= span.start_s] == []
    assert all(a.end_s <= b.start_s for a, b in pairwise(unusable))
    beats = sorted([*windows.r_peak_s, *(beat.r_peak_s for beat in rejected)])
    assert len(beats) == len(source.beats.time_s)
    for r_peak_s in windows.r_peak_s:
        assert not any(span.start_s <= r_peak_s < span.end_s for span in unusable)
    for beat in rejected:
        assert any(span.start_s <= beat.r_peak_s < span.end_s for span in unusable)


def test_chunks_come_block_by_block_and_in_order():
    chunks = list(cut_windows(simulated(200), SPEC, block_s=60))
    assert len(chunks) == 3
    assert all(len(chunk.windows) > 30 for chunk in chunks)
    index = np.concatenate([chunk.windows.beat_index for chunk in chunks])
    assert (np.diff(index) > 0).all()
    types = {f.name: getattr(chunks[0].windows, f.name).dtype for f in fields(Windows)}
    empty = next(iter(cut_windows(nothing(0.5), SPEC, block_s=60))).windows
    assert {f.name: getattr(empty, f.name).dtype for f in fields(Windows)} == types


# --- detector


def matched(reference, found):
    """Sensitivity and positive predictive value within 150 ms."""
    distance = np.abs(reference[:, None] - found[None, :])
    return (distance.min(axis=1) <= 0.15).mean(), (distance.min(axis=0) <= 0.15).mean()


def detected(source, **options):
    windows, rejected, _ = cut(source, use_annotations=False, **options)
    return np.sort(np.concatenate([windows.r_peak_s, [beat.r_peak_s for beat in rejected]]))


@pytest.mark.parametrize(
    "trouble",
    [
        {},
        {"invert_leads": ("MLII", "V1")},
        {"pvc_rate": 0.1, "pac_rate": 0.05},
        {"af": True, "heart_rate_bpm": 100},
        {"electrode_loss": [("MLII", 20.0, 50.0), ("V1", 70.0, 100.0)]},
        {"mains_mv": 0.1, "noise_mv": 0.04},
        {"bundle_branch": True},
    ],
    ids=lambda trouble: ", ".join(trouble) or "clean",
)
def test_the_detector_finds_the_beats(trouble):
    source = simulated(120, **trouble)
    found = detected(source)
    sensitivity, ppv = matched(source.beats.time_s, found)
    assert sensitivity > 0.985
    assert ppv > 0.985
    assert np.diff(found).min() >= 0.2


@pytest.mark.parametrize("rate_hz", [50.0, 1000.0])
def test_the_detector_works_at_low_and_high_rates(rate_hz):
    source = simulated(60, rate_hz=rate_hz)
    assert min(matched(source.beats.time_s, detected(source))) == 1.0


@pytest.mark.parametrize("detector", ["pantompkins1985", "hamilton2002", "elgendi2010", "kalidas2017", "rodrigues2021"])
def test_other_detectors(detector):
    source = simulated(60)
    assert min(matched(source.beats.time_s, detected(source, detector=detector))) > 0.97


def test_inverted_leads_are_aligned_at_the_same_beat():
    upright, inverted = detected(simulated(60)), detected(simulated(60, invert_leads=("MLII", "V1")))
    assert len(upright) == len(inverted)
    assert np.abs(upright - inverted).max() < 0.02
