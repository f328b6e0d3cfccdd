"""What all readers share: references, pre-cut windows, checksums, checks and errors."""

import hashlib
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import numpy.typing as npt

from configs.errors import EcgError, SourceError
from warehouse.signal.ecg import FloatArray, RecordingHeader

MIN_RATE_HZ = 50.0
MAX_RATE_HZ = 2000.0


@dataclass(frozen=True)
class SourceRef:
    """One thing to read: small and picklable, so that it can go to a worker process.

    Attributes:
        format: wfdb, edf, csv or ucr.
        path: the record's header (.hea) for WFDB, the file itself for the others.
        name: record name; the file's stem.
    """

    format: str
    path: Path
    name: str


@dataclass(frozen=True)
class PrecutSource:
    """Windows that somebody else has cut, read whole.

    Attributes:
        header: `n_samples` is windows * samples, laid end to end.
        samples: float32 (windows, samples, 1), as in the file: UCR does not say the unit and often has none.
        label: str (windows,), the class as in the file ("1", "2", ...): the window's symbol.
        aami_class: str (windows,), `AamiClass` values.
    """

    header: RecordingHeader
    samples: FloatArray
    label: npt.NDArray[np.str_]
    aami_class: npt.NDArray[np.str_]


@contextmanager
def reading(path: Path, problem: str, hint: str = "") -> Iterator[None]:
    """Turns whatever a library raises over the content of a file into one SourceError.

    Parsers of files from elsewhere raise anything (IndexError, KeyError, OverflowError, ...) when bytes are not
    what they expect; which of them it was says nothing to the person with the file.
    """
    try:
        yield
    except (EcgError, MemoryError):
        raise
    except OSError as error:
        # pyedflib raises OSError without errno for malformed content: then `problem` is the better sentence
        if error.errno is None:
            raise SourceError(str(path), f"{problem} ({_first_line(error)})", hint) from error
        raise SourceError(
            str(path), f"cannot be read: {error.strerror}", "Check that it exists and that you may read it."
        ) from error
    except Exception as error:
        raise SourceError(str(path), f"{problem} ({_first_line(error)})", hint) from error


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return shown(lines[0], 200) if lines else type(error).__name__


def shown(text: str, length: int = 40) -> str:
    """Returns text out of a file fit for one line of an error: short, and without line ends or escape codes."""
    return "".join(character if character.isprintable() else "?" for character in text[:length])


def sha256_of(paths: Iterable[Path]) -> str:
    """Returns the sha256 (hex) of the files' contents, one after the other.

    Raises:
        SourceError: a file cannot be read.
    """
    digest = hashlib.sha256()
    for path in paths:
        with reading(path, "cannot be read"), path.open("rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()


def check_rate(sampling_rate_hz: float, path: Path, hint: str = "") -> float:
    """Returns the rate when an ECG can have it.

    Raises:
        SourceError: it is not between 50 and 2000 Hz.
    """
    if not MIN_RATE_HZ <= sampling_rate_hz <= MAX_RATE_HZ:
        raise SourceError(
            str(path),
            f"sampling rate is {sampling_rate_hz:g} Hz, not within {MIN_RATE_HZ:g} to {MAX_RATE_HZ:g} Hz",
            hint or "Check the rate the file declares, or resample the recording.",
        )
    return float(sampling_rate_hz)


def check_range(start: int, stop: int, n_samples: int) -> None:
    """Raises ValueError when [start, stop) is not within the recording: a caller's mistake, not the file's."""
    if not 0 <= start <= stop <= n_samples:
        raise ValueError(f"samples [{start}, {stop}) are not within [0, {n_samples})")


def source_uri(path: Path) -> str:
    return path.absolute().as_uri()


def sex_of(text: str) -> str:
    """Returns female, male or unknown for what files write: F, Female, m, ..."""
    return {"f": "female", "female": "female", "m": "male", "male": "male"}.get(text.strip().lower(), "unknown")


def plausible_age(years: int) -> int | None:
    """Returns the age, or None for what files write when they do not know (-1, 999)."""
    return years if 0 <= years <= 120 else None


def utc(moment: datetime) -> datetime:
    """Returns a timezone-aware moment; files that name no time zone are taken as UTC."""
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


def natural_key(text: str) -> list[str | int]:
    """Sort key by which record 9 comes before record 10."""
    return [int(part) if part.isdecimal() else part for part in re.split(r"(\d+)", text)]
