"""The simulator: reproducible, marked as simulated, and with the trouble it was asked for."""

import numpy as np
import pytest

from configs.errors import ConfigurationError, SourceError
from warehouse.signal.beat_shapes import LEADS, SHAPE_RATE_HZ, Heart, beat_shape, st_shape, standard_lead
from warehouse.signal.simulate import simulate_cohort, simulate_recording

pytestmark = pytest.mark.unit

R = round(0.35 * SHAPE_RATE_HZ)


def simulated(duration_s=300, rate_hz=200.0, leads=("MLII", "V1"), seed=1, **options):
    return simulate_recording(
        name="sim", duration_s=duration_s, sampling_rate_hz=rate_hz, leads=leads, seed=seed, **options
    )


def width_ms(shape):
    """How long the QRS is beyond a quarter of its height."""
    qrs = np.abs(shape[R - 60 : R + 75])
    return np.count_nonzero(qrs > qrs.max() / 4) / SHAPE_RATE_HZ * 1000


def symbols(source):
    values, counts = np.unique(source.beats.symbol, return_counts=True)
    return dict(zip(values.tolist(), (counts / counts.sum()).tolist(), strict=True))


# --- what a source is


def test_header_says_that_it_is_simulated():
    header = simulated(60, sex="female", age_years=61).header
    assert (header.source_format, header.simulated, header.device) == ("simulated", True, "simulator")
    assert (header.name, header.patient_key, header.source_uri) == ("sim", "sim", "simulated:sim")
    assert (header.n_samples, header.duration_s, header.leads) == (12000, 60.0, ("MLII", "V1"))
    assert (header.sex, header.age_years) == ("female", 61)
    assert len(header.checksum) == 64


def test_same_arguments_same_bits_and_checksum():
    options = {"pvc_rate": 0.1, "af": False, "noise_mv": 0.03, "electrode_loss": [("V1", 10.0, 20.0)]}
    one, other = simulated(60, **options), simulated(60, **options)
    assert one.samples.tobytes() == other.samples.tobytes()
    assert one.beats.time_s.tobytes() == other.beats.time_s.tobytes()
    assert one.header == other.header


@pytest.mark.parametrize("change", [{"seed": 2}, {"pvc_rate": 0.2}, {"noise_mv": 0.02}, {"leads": ("MLII", "V2")}])
def test_another_argument_is_another_recording(change):
    one, other = simulated(60), simulated(60, **change)
    assert one.header.checksum != other.header.checksum
    assert one.samples.tobytes() != other.samples.tobytes()


def test_read_gives_the_asked_samples_and_refuses_others():
    source = simulated(10)
    assert source.read(100, 300).shape == (200, 2)
    assert source.read(0, 2000).dtype == np.float32
    assert np.array_equal(source.read(100, 300), source.read(0, 2000)[100:300])
    with pytest.raises(SourceError, match="sim: has 2000 samples"):
        source.read(1900, 2001)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"leads": ("MLII", "V9")}, "no lead 'V9'.*Known: I, II"),
        ({"invert_leads": ("V5",)}, "'V5' is to be changed but not recorded"),
        ({"pvc_rate": 0.3, "pac_rate": 0.3}, "pvc_rate.*0.6 is out of range"),
        ({"pac_rate": -0.1, "pvc_rate": 0.2}, "-0.1 is out of range"),
        ({"heart_rate_bpm": 5}, "heart_rate_bpm: 5 is out of range"),
        ({"rate_hz": 10.0}, "sampling_rate_hz: 10 is out of range"),
    ],
)
def test_bad_arguments_say_what_is_wrong(options, words):
    with pytest.raises(ConfigurationError, match=words):
        simulated(10, **options)


@pytest.mark.parametrize("duration_s", [0.0, 0.5, 3.0])
def test_short_recordings(duration_s):
    source = simulated(duration_s)
    assert source.samples.shape == (round(duration_s * 200), 2)
    assert (source.beats.time_s < duration_s).all()


# --- rhythm


def test_normal_rhythm_varies_with_breathing_and_mayer_waves():
    source = simulated(600, heart_rate_bpm=72)
    rr = np.diff(source.beats.time_s)
    assert 60 / rr.mean() == pytest.approx(72, rel=0.03)
    assert 0.015 < rr.std() < 0.09
    even = np.interp(np.arange(5, 595, 0.25), source.beats.time_s[1:], rr)
    power = np.abs(np.fft.rfft(even - even.mean())) ** 2
    hz = np.fft.rfftfreq(len(even), 0.25)
    total = power[(hz > 0.03) & (hz < 0.5)].sum()
    assert power[(hz > 0.06) & (hz < 0.14)].sum() > 0.1 * total
    assert power[(hz > 0.17) & (hz < 0.33)].sum() > 0.1 * total


@pytest.mark.parametrize(("symbol", "rate"), [("V", "pvc_rate"), ("A", "pac_rate")])
def test_premature_beats_come_as_often_as_asked_and_early(symbol, rate):
    source = simulated(1800, **{rate: 0.12})
    assert symbols(source)[symbol] == pytest.approx(0.12, abs=0.03)
    rr, is_early = np.diff(source.beats.time_s), source.beats.symbol[1:] == symbol
    assert np.median(rr[is_early]) < 0.8 * np.median(rr[~is_early])
    at = np.flatnonzero(source.beats.symbol[2:-2] == symbol) + 2
    around = source.beats.time_s[at + 1] - source.beats.time_s[at - 1]
    normal = source.beats.time_s[at - 1] - source.beats.time_s[at - 2]
    if symbol == "V":
        assert np.median(around / normal) == pytest.approx(2.0, abs=0.06)  # fully compensatory
    else:
        assert 1.6 < np.median(around / normal) < 1.9


def test_fibrillation_is_irregular_and_has_no_p_wave():
    fibrillation, sinus = simulated(600, af=True, heart_rate_bpm=95), simulated(600, heart_rate_bpm=95)
    spread = [np.std(np.diff(s.beats.time_s)) / np.mean(np.diff(s.beats.time_s)) for s in (fibrillation, sinus)]
    assert spread[0] == pytest.approx(0.22, abs=0.03)
    assert spread[1] < 0.07
    assert np.diff(fibrillation.beats.time_s).min() > 0.3
    assert set(fibrillation.beats.symbol) == {"N"}
    heart = Heart()
    p_wave = slice(R - 110, R - 50)
    assert np.ptp(beat_shape("sinus", "II", heart)[p_wave]) > 0.1
    assert np.ptp(beat_shape("fibrillation", "II", heart)[p_wave]) < 0.02


def test_pauses_last_two_seconds_and_more():
    rr = np.diff(simulated(1200, pause_rate=0.02).beats.time_s)
    assert np.mean(rr > 2) == pytest.approx(0.02, abs=0.01)
    assert rr.max() < 6


def test_bundle_branch_block_is_labelled_and_wide():
    assert set(symbols(simulated(120, bundle_branch=True))) == {"L"}
    assert symbols(simulated(600, bundle_branch=True, pvc_rate=0.1))["V"] > 0.05


# --- shapes


@pytest.mark.parametrize("lead", ["II", "V1", "V5"])
def test_ventricular_and_blocked_beats_are_wide_and_their_t_wave_points_the_other_way(lead):
    heart = Heart()
    normal = width_ms(beat_shape("sinus", lead, heart))
    assert 35 < normal < 90
    for kind in ("ventricular", "left_bundle"):
        shape = beat_shape(kind, lead, heart)
        qrs, t_wave = shape[R - 40 : R + 60], shape[R + 110 : R + 260]
        assert width_ms(shape) > 1.4 * normal
        assert np.sign(t_wave[np.abs(t_wave).argmax()]) == -np.sign(qrs[np.abs(qrs).argmax()])


def test_only_beats_from_the_atria_have_a_p_wave():
    heart = Heart()
    p_wave = slice(R - 110, R - 45)
    assert beat_shape("sinus", "II", heart)[p_wave].max() > 0.1
    assert beat_shape("atrial", "II", heart)[p_wave].min() < -0.03
    assert np.abs(beat_shape("ventricular", "II", heart)[R - 110 : R - 75]).max() < 0.05


@pytest.mark.parametrize("lead", LEADS)
def test_every_lead_has_every_kind_of_beat(lead):
    for kind in ("sinus", "atrial", "fibrillation", "ventricular", "left_bundle"):
        shape = beat_shape(kind, lead, Heart())
        assert shape.shape == (500,)
        assert np.isfinite(shape).all()
        assert 0.1 < np.abs(shape).max() < 3
        assert np.abs(shape[[0, -1]]).max() < 0.02


def test_the_axis_decides_which_leads_are_upright():
    left, down = Heart(axis_deg=-40), Heart(axis_deg=90)
    assert beat_shape("sinus", "II", left)[R] < beat_shape("sinus", "I", left)[R]
    assert beat_shape("sinus", "AVF", down)[R] > 1.0
    assert beat_shape("sinus", "AVR", down)[R] < 0


def test_names_of_leads():
    names = ("MLII", "avf", "mv5", "CM5", " v1 ", "X")
    assert [standard_lead(name) for name in names] == ["II", "AVF", "V5", "V5", "V1", None]


@pytest.mark.parametrize("shift_mv", [0.2, -0.2])
def test_st_shift_moves_the_st_segment_only(shift_mv):
    """Difference to the same recording without the shift, 60-100 ms after the R peak and before the P wave."""
    plain, shifted = simulated(60, noise_mv=0.0), simulated(60, noise_mv=0.0, st_shift_mv=shift_mv)
    difference = shifted.samples - plain.samples
    amplitude = simulated(60).beats.time_s[5:-5]
    st_level = difference[np.rint((amplitude + 0.09) * 200).astype(int), 0].mean()
    before = difference[np.rint((amplitude - 0.25) * 200).astype(int), 0].mean()
    assert st_level == pytest.approx(shift_mv, abs=0.04)
    assert abs(before) < 0.02
    assert st_shape().max() == 1.0


# --- recorder


def test_the_lost_electrode_is_flat_and_the_other_lead_is_not():
    samples = simulated(60, electrode_loss=[("V1", 20.0, 30.0)]).samples
    assert np.ptp(samples[4000:6000, 1]) <= 0.011
    assert np.ptp(samples[4000:6000, 0]) > 0.5
    assert np.ptp(samples[6100:8000, 1]) > 0.5


def test_inverted_leads_are_the_others_mirrored():
    upright, inverted = simulated(30), simulated(30, invert_leads=("MLII",))
    assert np.allclose(inverted.samples[:, 0], -upright.samples[:, 0], atol=0.0051)
    assert np.array_equal(inverted.samples[:, 1], upright.samples[:, 1])


def test_mains_and_noise_are_as_large_as_asked():
    plain = simulated(60, noise_mv=0.0).samples
    hum = simulated(60, noise_mv=0.0, mains_mv=0.1).samples - plain
    assert np.std(hum[:, 0]) == pytest.approx(0.1 / 2**0.5, rel=0.1)
    noise = simulated(60, noise_mv=0.05).samples - plain
    assert np.std(noise[:, 0]) == pytest.approx(0.05, rel=0.2)


def test_samples_are_in_steps_of_the_converter():
    counts = simulated(20).samples / 0.005
    assert np.abs(counts - np.rint(counts)).max() < 1e-3


# --- cohort


def test_cohort_is_a_mix_of_patients_and_does_not_change_when_it_grows():
    cohort = simulate_cohort(12, duration_s=60, sampling_rate_hz=200, seed=5)
    assert [source.header.name for source in cohort] == [f"sim{i:03d}" for i in range(12)]
    assert len({source.header.checksum for source in cohort}) == 12
    assert {source.header.sex for source in cohort} == {"female", "male"}
    assert len({source.header.age_years for source in cohort}) > 6
    few = simulate_cohort(3, duration_s=60, sampling_rate_hz=200, seed=5)
    assert [source.header.checksum for source in few] == [source.header.checksum for source in cohort[:3]]
    assert any("L" in set(source.beats.symbol) for source in cohort)
    assert all(np.abs(source.samples).max() < 6 for source in cohort)
    spread = [np.std(np.diff(source.beats.time_s)) for source in cohort]
    assert max(spread) > 0.1
    assert len({round(float(np.ptp(source.samples[:, 0])), 2) for source in cohort}) > 8
