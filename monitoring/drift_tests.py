"""Has it moved? Live recordings against the reference, and every recording against itself a moment before.

Two questions, each with the spread that belongs to it:

- Against the reference (gradual): the mean over the patients of a group, against the patients of the reference. What a
  group must exceed is how much patients differ, so a new patient alone is hardly ever drift, and a device whose
  patients all lie to one side is.
- Within a recording (sudden): the largest change between neighbouring spans, against the largest changes that the
  reference's recordings have within themselves.

All p-values of a run go through one Benjamini-Hochberg procedure, so that with nothing to find a run raises anything
with at most the chance it was given, however many features, leads, devices and recordings there are.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Final

import numpy as np
from scipy import stats

from monitoring.drift_features import FloatArray, IntArray, Key, Stream, feature_of
from monitoring.drift_reference import (
    BLOCK,
    LEAST_WINDOWS,
    SPANS,
    FeatureReference,
    Reference,
    block_means,
    changes,
    own_noise,
)

GRADUAL, SUDDEN = "gradual", "sudden"
SITE, DEVICE, RECORDING = "site", "device", "recording"
_EPOCH = datetime(2000, 1, 1, tzinfo=UTC)
_MOST_EXAMPLES: Final = 5
_LEAST_FOR_SHAPE: Final = 4  # patients in a row, to tell a step from a ramp


@dataclass(frozen=True)
class Finding:
    """Something that moved.

    Attributes:
        kind: gradual (against the reference) or sudden (at a moment).
        drift: input, prediction, concept or skew.
        feature, lead: what moved; lead is '' for features of the whole window.
        scope: what moved together: site, device or recording; `subject` is its name.
        before, after: mean of the reference (or before the change) and of live (or after), in `unit`.
        effect: the difference, in spreads of single windows.
        p_value: of this test alone; `adjusted` accounts for all tests of the run.
        windows: live windows that the test saw.
        recordings, devices: that make it, most telling first: ids and names.
        examples: window ids, most telling first.
        since: when it began, where that is known.
        detail: in words.
    """

    kind: str
    drift: str
    feature: str
    lead: str
    scope: str
    subject: str
    before: float
    after: float
    unit: str
    effect: float
    p_value: float
    adjusted: float
    windows: int
    recordings: tuple[int, ...]
    devices: tuple[str, ...]
    examples: tuple[int, ...]
    since: datetime | None
    detail: str

    @property
    def key(self) -> Key:
        return Key(self.feature, self.lead)


@dataclass(frozen=True)
class Detection:
    """What a run found, how many questions it asked, and what it could not ask: reason to how often."""

    findings: tuple[Finding, ...]
    tests: int
    gaps: Mapping[str, int]


@dataclass(frozen=True)
class _Summary:
    """One feature of one recording, on the compared scale."""

    stream: Stream
    key: Key
    reference: FeatureReference
    rows: IntArray  # of the windows that have it
    values: FloatArray
    mean: float


@dataclass(frozen=True)
class _Test:
    """One question: what would be found, its p-value, and the recordings it is about."""

    p_value: float
    kind: str
    scope: str
    subject: str
    summaries: tuple[_Summary, ...]
    difference: float = 0.0
    split: int = 0  # of a sudden one: first window after the change
    span: int = 0


def detect(
    reference: Reference, live: Sequence[Stream], *, false_alarms: float = 0.005, others: Sequence[Finding] = ()
) -> Detection:
    """Compares live recordings of one site with the reference.

    Args:
        reference: of the model version that scored them.
        live: in order of arrival.
        false_alarms: chance that a run without any drift finds something.
        others: what would be found by other tests, each with its p-value: they are corrected for together.
    """
    gaps: dict[str, int] = {}
    summaries = list(_summaries(reference, live, gaps))
    tests = [*_against_reference(summaries), *_within_recordings(summaries)]
    p_values = [test.p_value for test in tests] + [other.p_value for other in others]
    if not p_values:
        return Detection((), 0, gaps)
    adjusted = stats.false_discovery_control(p_values, method="bh").tolist()
    found = [(test, q) for test, q in zip(tests, adjusted, strict=False) if q <= false_alarms]
    findings = [_describe(test, q) for test, q in _without_echoes(found)]
    rest = zip(others, adjusted[len(tests) :], strict=True)
    findings += [replace(other, adjusted=q) for other, q in rest if q <= false_alarms]
    return Detection(tuple(sorted(findings, key=lambda f: f.adjusted)), len(p_values), gaps)


def _summaries(reference: Reference, live: Sequence[Stream], gaps: dict[str, int]) -> Iterator[_Summary]:
    for stream in live:
        for key, values in stream.values.items():
            found = reference.of(key, stream.slots.get(key.lead))
            if found is None:
                gaps["no_reference_of_feature"] = gaps.get("no_reference_of_feature", 0) + 1
                continue
            rows = np.flatnonzero(np.isfinite(values))
            if len(rows) < LEAST_WINDOWS:
                gaps["too_few_windows"] = gaps.get("too_few_windows", 0) + 1
                continue
            compared = feature_of(key.feature).compared(values[rows])
            yield _Summary(stream, key, found, rows, compared, float(compared.mean()))


# --- against the reference ---------------------------------------------------------------------------------------


def _against_reference(summaries: Sequence[_Summary]) -> Iterator[_Test]:
    groups: dict[tuple[str, str, Key], list[_Summary]] = {}
    for s in summaries:
        for scope, subject in (
            (SITE, s.stream.site),
            (DEVICE, s.stream.device),
            (RECORDING, str(s.stream.recording_id)),
        ):
            groups.setdefault((scope, subject, s.key), []).append(s)
    asked = list(groups.items())
    if not asked:
        return
    statistics = np.array([_t_of(members) for _, members in asked])
    p_values = 2 * stats.t.sf(np.abs(statistics[:, 1]), statistics[:, 2])
    for ((scope, subject, _), members), row, p in zip(asked, statistics, p_values, strict=True):
        yield _Test(float(p), GRADUAL, scope, subject, tuple(members), difference=float(row[0]))


def _t_of(members: Sequence[_Summary]) -> tuple[float, float, float]:
    """Difference of means, its t statistic and degrees of freedom; a patient counts once, however many recordings.

    The spread is that from patient to patient in the reference, or in the group where that is larger. A patient of few
    windows is less certain than those of the reference, by what blocks of windows differ.
    """
    reference = members[0].reference
    least = feature_of(members[0].key.feature).least
    by_patient: dict[str, list[_Summary]] = {}
    for member in members:
        by_patient.setdefault(member.stream.patient, []).append(member)
    counts = np.array([sum(len(s.values) for s in parts) for parts in by_patient.values()])
    means = np.array(
        [sum(s.mean * len(s.values) for s in parts) / n for parts, n in zip(by_patient.values(), counts, strict=True)]
    )
    m, n_reference = len(means), len(reference.means)
    own = float(np.std(means, ddof=1)) if m > 1 else 0.0
    of_reference = reference.between_sd(least)
    usual = reference.windows / n_reference
    block_variance = max(reference.block_variance, least**2)
    uncertain = np.maximum(1 / counts - 1 / usual, 0) * BLOCK * block_variance
    variance = max(own, of_reference) ** 2 / m + of_reference**2 / n_reference + uncertain.sum() / m**2
    difference = float(means.mean()) - reference.mean
    return difference, difference / float(np.sqrt(variance)), float(n_reference - 1)


# --- within a recording ------------------------------------------------------------------------------------------


def _within_recordings(summaries: Sequence[_Summary]) -> Iterator[_Test]:
    for s in summaries:
        blocks = block_means(s.values)
        least = feature_of(s.key.feature).least
        noise = own_noise(blocks, max(s.reference.noise, least))
        for span in SPANS:
            jumps = s.reference.jumps.get(span)
            found = changes(blocks, span, noise)
            if jumps is None or len(found) == 0:
                continue
            largest = int(np.abs(found).argmax())
            difference = float(found[largest]) * noise * float(np.sqrt(2 / span))
            p = jumps.p_value(abs(float(found[largest])), len(found)) if abs(difference) >= least else 1.0
            yield _Test(
                float(p),
                SUDDEN,
                RECORDING,
                str(s.stream.recording_id),
                (s,),
                difference,
                (largest + span) * BLOCK,
                span,
            )


# --- what is told of it --------------------------------------------------------------------------------------------


def _without_echoes(found: Iterable[tuple[_Test, float]]) -> list[tuple[_Test, float]]:
    """Leaves out what another finding says better: a recording's own one where its device's says so, a site's where one
    device makes it, and of one sudden change all spans but the surest.
    """
    by_what: dict[tuple[str, str, str, Key], tuple[_Test, float]] = {}
    for test, q in found:
        what = (test.kind, test.scope, test.subject, test.summaries[0].key)
        if what not in by_what or test.p_value < by_what[what][0].p_value:
            by_what[what] = (test, q)
    kept = []
    for test, q in by_what.values():
        key, stream = test.summaries[0].key, test.summaries[0].stream
        if test.kind == GRADUAL and test.scope == RECORDING:
            wider = by_what.get((GRADUAL, DEVICE, stream.device, key)) or by_what.get((GRADUAL, SITE, stream.site, key))
            if wider is not None and wider[0].difference * test.difference > 0 and len(wider[0].summaries) > 1:
                continue
        if test.kind == GRADUAL and test.scope == SITE and _made_by_devices(test, by_what):
            continue
        if test.kind == GRADUAL and test.scope == DEVICE and len(test.summaries) == 1:
            continue  # the recording's own finding says it, and names the device
        kept.append((test, q))
    return kept


def _made_by_devices(test: _Test, by_what: Mapping[tuple[str, str, str, Key], tuple[_Test, float]]) -> bool:
    """Whether a site's finding is gone without the devices and recordings that have one of their own."""
    key = test.summaries[0].key

    def has_own(s: _Summary) -> bool:
        device = (GRADUAL, DEVICE, s.stream.device, key) in by_what
        return device or (GRADUAL, RECORDING, str(s.stream.recording_id), key) in by_what

    others = [s for s in test.summaries if not has_own(s)]
    if len(others) == len(test.summaries):
        return False
    if not others:
        return True
    _, t, df = _t_of(others)
    return bool(2 * stats.t.sf(abs(t), df) > 0.01 or t * test.difference < 0)


def _describe(test: _Test, adjusted: float) -> Finding:
    key, reference = test.summaries[0].key, test.summaries[0].reference
    feature = feature_of(key.feature)
    direction = np.sign(test.difference) or 1.0
    makers = sorted(test.summaries, key=lambda s: -direction * (s.mean - reference.mean))
    makers = [s for s in makers if direction * (s.mean - reference.mean) > 0] or makers
    kind, since = test.kind, None
    if test.kind == SUDDEN:
        (s,) = makers
        span = test.span * BLOCK
        before = feature.natural(float(s.values[max(0, test.split - span) : test.split].mean()))
        after = feature.natural(float(s.values[test.split : test.split + span].mean()))
        since = _moment(s, test.split)
        rows = s.rows[test.split : test.split + span]
        examples = s.stream.window_id[rows[:: max(1, len(rows) // _MOST_EXAMPLES)]][:_MOST_EXAMPLES]
        if _ramp_fits_better(s.values):
            kind = GRADUAL
        how = f"changed at window {int(s.rows[test.split])} of {s.stream.recording}"
    else:
        before, after = feature.natural(reference.mean), feature.natural(reference.mean + test.difference)
        kind, since = _kind_of_group(test)
        examples = np.concatenate([_telling(s, direction) for s in makers[:_MOST_EXAMPLES]])[:_MOST_EXAMPLES]
        how = f"{len(test.summaries)} recordings against {len(reference.means)} patients of the reference"
    spread = max(reference.window_sd, feature.least)
    amount = f"{before:.3g} to {after:.3g}{f' {feature.unit}' if feature.unit else ''}"
    return Finding(
        kind=kind,
        drift=feature.drift,
        feature=key.feature,
        lead=key.lead,
        scope=test.scope,
        subject=test.summaries[0].stream.recording if test.scope == RECORDING else test.subject,
        before=before,
        after=after,
        unit=feature.unit,
        effect=test.difference / spread,
        p_value=test.p_value,
        adjusted=adjusted,
        windows=sum(len(s.values) for s in test.summaries),
        recordings=tuple(s.stream.recording_id for s in makers),
        devices=tuple(dict.fromkeys(s.stream.device for s in makers)),
        examples=tuple(int(i) for i in examples),
        since=since,
        detail=f"{key}: {amount}; {how}",
    )


def _telling(s: _Summary, direction: float) -> IntArray:
    """The windows of a recording that lie farthest to the side it moved to, without the extreme tenth."""
    order = np.argsort(direction * s.values)
    row = order[int(0.9 * (len(order) - 1))]
    return np.asarray(s.stream.window_id[s.rows[[row]]])


def _moment(s: _Summary, window: int) -> datetime:
    row = s.rows[min(window, len(s.rows) - 1)]
    return _EPOCH + timedelta(microseconds=int(s.stream.recorded_at_us[row]))


def _kind_of_group(test: _Test) -> tuple[str, datetime | None]:
    """Sudden, and since when, where a step in the order of arrival explains the group's recordings, and a ramp less."""
    means = np.array([s.mean for s in test.summaries])
    n = len(means)
    if n < 2 * _LEAST_FOR_SHAPE:
        return GRADUAL, None
    split, step = _best_step(means, _LEAST_FOR_SHAPE)
    constant, ramp = float(((means - means.mean()) ** 2).sum()), _ramp_residual(means)
    f = (constant - step) / max(step / (n - 3), 1e-12)
    if step < ramp and stats.f.sf(f / 2, 2, n - 3) < 0.01:  # the position was chosen: one more parameter
        return SUDDEN, _moment(test.summaries[split], 0)
    return GRADUAL, None


def _ramp_fits_better(values: FloatArray) -> bool:
    blocks = block_means(values)
    return len(blocks) >= 2 * _LEAST_FOR_SHAPE and _ramp_residual(blocks) < _best_step(blocks, 2)[1]


def _best_step(y: FloatArray, least: int) -> tuple[int, float]:
    """Where a step fits best, and what it leaves of the squares; at least `least` values on either side."""
    n = np.arange(1, len(y))
    head, squares = np.cumsum(y)[:-1], float((y**2).sum())
    left = squares - head**2 / n - (y.sum() - head) ** 2 / (len(y) - n)
    inner = left[least - 1 : len(y) - least]
    best = int(inner.argmin())
    return best + least, float(inner[best])


def _ramp_residual(y: FloatArray) -> float:
    x = np.arange(len(y)) - (len(y) - 1) / 2
    slope = float((x * y).sum() / (x**2).sum())
    return float(((y - y.mean() - slope * x) ** 2).sum())
