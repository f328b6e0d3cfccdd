"""Quality codes: what is wrong with each sample of each lead, a byte a sample."""

import numpy as np
import numpy.typing as npt

from warehouse.signal.ecg import Reason, UnusableSpan

CodeArray = npt.NDArray[np.uint8]

#: Codes, least severe first. Of one lead's reasons in a window the most severe counts; of several leads the one
#: that is least lost says why there is no window.
USABLE, NOISE, AMPLITUDE, SATURATION, LEAD_OFF, FLAT_LINE, GAP = range(7)

_REASON_OF_CODE = {
    NOISE: Reason.NOISE,
    AMPLITUDE: Reason.AMPLITUDE,
    SATURATION: Reason.SATURATION,
    LEAD_OFF: Reason.LEAD_OFF,
    FLAT_LINE: Reason.FLAT_LINE,
    GAP: Reason.GAP,
}


def reason_of(code: int) -> Reason:
    """The reason a code other than `USABLE` stands for."""
    return _REASON_OF_CODE[int(code)]


def spans_of(code: CodeArray, *, first_sample: int, sampling_rate_hz: float, lead: str | None) -> list[UnusableSpan]:
    """Runs of one reason in (n,) codes as spans in seconds from the recording's start."""
    if not len(code):
        return []
    edges = np.concatenate([[0], np.flatnonzero(np.diff(code)) + 1, [len(code)]])
    spans = []
    for start, stop in zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True):
        if code[start] != USABLE:
            at = ((first_sample + start) / sampling_rate_hz, (first_sample + stop) / sampling_rate_hz)
            spans.append(UnusableSpan(*at, reason_of(code[start]), lead))
    return spans


def all_bad(code: CodeArray) -> CodeArray:
    """(n,) codes of where no lead can be used: the least severe lead's; 0 where some lead can."""
    least: CodeArray = code.min(axis=1)
    least[least == LEAD_OFF] = FLAT_LINE
    return least
