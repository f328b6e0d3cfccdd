"""Reference beats from a WFDB annotation file (MIT format).

The format is that of the WFDB Programmer's Guide, appendix "annot(5)": 16-bit little-endian words, six bits code and
ten bits time since the last annotation, closed by a zero word. `wfdb.rdann` is not used here because it never returns
from some files (a note at time 0 that starts with "## " and is neither of the two it knows) and reads a file that was
cut off as if it were whole; a test compares the two on every MIT-BIH record.
"""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from configs.errors import SourceError
from warehouse.signal.ecg import AAMI_OF_SYMBOL, BeatAnnotations
from warehouse.signal.readers.base import reading, shown

_SYMBOLS = "NLRaVFJASEj/Q"  # codes 1 to 13
_SYMBOL_OF_CODE = {
    **dict(enumerate(_SYMBOLS, start=1)),
    **{25: "B", 30: "?", 34: "e", 35: "n", 38: "f", 41: "r"},
}
_BEAT_OF_CODE = {code: symbol for code, symbol in _SYMBOL_OF_CODE.items() if symbol in AAMI_OF_SYMBOL}
_FIBRILLATION_ON, _FIBRILLATION_OFF = 32, 33  # [ and ]: ventricular flutter or fibrillation
_NOTE, _SKIP, _NUM, _SUB, _CHAN, _AUX = 22, 59, 60, 61, 62, 63
_TOLERANCE_S = 1.0  # how far beyond the recording an annotation may lie before the two files do not belong together
_HINT = "Fetch the annotation file again, or move it away to read the recording without labels."


class _Annotation(NamedTuple):
    ticks: int
    code: int


def read_beats(path: Path, *, sampling_rate_hz: float, duration_s: float) -> BeatAnnotations:
    """Reads the beats of an annotation file; rhythm changes, comments and artefact marks are left out.

    Args:
        path: the `.atr` file.
        sampling_rate_hz: of the record: the file's clock, unless it declares its own time resolution.
        duration_s: of the record.

    Raises:
        SourceError: the file is cut off, is not in MIT format, or has annotations beyond the record's end.
    """
    annotations, ticks_per_s = _read(path)
    beats = sorted((a for a in annotations if a.code in _BEAT_OF_CODE), key=lambda a: a.ticks)
    time_s = np.array([beat.ticks for beat in beats], dtype=np.float64) / (ticks_per_s or sampling_rate_hz)
    if len(time_s) and time_s[0] < 0:
        raise _broken(path, f"has a beat before the recording's start, at {time_s[0]:.1f} s")
    if len(time_s) and time_s[-1] > duration_s + _TOLERANCE_S:
        raise _broken(path, f"has a beat at {time_s[-1]:.1f} s, but the recording ends at {duration_s:.1f} s")
    symbol = np.array([_BEAT_OF_CODE[beat.code] for beat in beats], dtype="<U1")
    return BeatAnnotations(time_s=time_s, symbol=symbol)


def read_fibrillation(path: Path, *, sampling_rate_hz: float, duration_s: float) -> list[tuple[float, float]]:
    """Stretches of ventricular flutter or fibrillation in an annotation file, seconds from the recording's start.

    Raises:
        SourceError: as `read_beats`.
    """
    annotations, ticks_per_s = _read(path)
    rate_hz = ticks_per_s or sampling_rate_hz
    spans: list[tuple[float, float]] = []
    start_s: float | None = None
    for one in sorted(annotations, key=lambda a: a.ticks):
        if one.code == _FIBRILLATION_ON and start_s is None:
            start_s = one.ticks / rate_hz
        elif one.code == _FIBRILLATION_OFF and start_s is not None:
            spans.append((start_s, one.ticks / rate_hz))
            start_s = None
    return spans if start_s is None else [*spans, (start_s, duration_s)]


def _read(path: Path) -> tuple[list[_Annotation], float | None]:
    with reading(path, "cannot be read"):
        content = path.read_bytes()
    if not content or len(content) % 2:
        raise _broken(path, f"holds {len(content)} bytes, not pairs of bytes")
    return _parse(np.frombuffer(content, dtype="<u2").tolist(), path)


def _parse(words: Sequence[int], path: Path) -> tuple[list[_Annotation], float | None]:
    """All annotations, and ticks a second when the file declares its time resolution."""
    annotations: list[_Annotation] = []
    ticks_per_s: float | None = None
    ticks = at = 0
    try:
        while word := words[at]:
            code, value = word >> 10, word & 1023
            at += 1
            if code == _SKIP:  # a 32-bit interval, high word first
                interval = words[at] << 16 | words[at + 1]
                ticks += interval - (1 << 32) if interval >> 31 else interval
                at += 2
            elif code == _AUX:
                n_words = (value + 1) // 2
                if at + n_words > len(words):
                    raise IndexError
                if annotations and annotations[-1] == (0, _NOTE):
                    ticks_per_s = _resolution(words[at : at + n_words], path) or ticks_per_s
                at += n_words
            elif code not in (_NUM, _SUB, _CHAN):
                ticks += value
                annotations.append(_Annotation(ticks, code))
    except IndexError as error:
        raise _broken(path, "ends in the middle: it has no end mark") from error
    return annotations, ticks_per_s


def _resolution(words: Sequence[int], path: Path) -> float | None:
    text = np.array(words, dtype="<u2").tobytes().decode("latin-1")
    match = re.match(r"## time resolution: (\S+)", text.rstrip("\0"))
    if match is None:
        return None
    try:
        ticks_per_s = float(match[1])
    except ValueError:
        ticks_per_s = 0.0
    if not 0 < ticks_per_s < 1e9:
        raise _broken(path, f"declares the time resolution '{shown(match[1])}'")
    return ticks_per_s


def _broken(path: Path, problem: str) -> SourceError:
    return SourceError(str(path), problem, _HINT)
