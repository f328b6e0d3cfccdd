"""Finds what can be read in files, folders, globs and WFDB record names."""

import glob
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from fnmatch import fnmatch
from pathlib import Path

from configs.errors import SourceError
from warehouse.signal.readers.base import SourceRef, natural_key

#: What stands beside recordings in published folders and is none itself.
_BYSTANDERS = ("sha256sums*", "records", "records.txt", "annotators", "readme*", "license*", "licence*", "patients.csv")
_TEXT = (".csv", ".txt", ".tsv")
_UCR_MIN_CELLS = 9  # the class and the eight samples a window needs at least
_HINT = "Give a .hea, .edf, .csv or UCR .txt/.tsv file, a WFDB record name, a folder or a glob."


def find_sources(paths: Sequence[str]) -> tuple[list[SourceRef], list[SourceError]]:
    """Finds all recordings under `paths`.

    Args:
        paths: each a file, a folder (searched through), a glob, or a WFDB record name without extension.

    Returns:
        References in natural order, each file once; and one error for each path that gave none, so that the others
        can go on. Headers of segments are left out when their multi-segment record is there.
    """
    found: dict[Path, SourceRef] = {}
    failures: list[SourceError] = []
    for text in paths:
        try:
            for ref in _expand(text):
                found.setdefault(ref.path.resolve(), ref)
        except SourceError as error:
            failures.append(error)
    segments = _segments_of(found)
    refs = [ref for resolved, ref in found.items() if resolved not in segments]
    return sorted(refs, key=lambda ref: natural_key(str(ref.path))), failures


def _expand(text: str) -> list[SourceRef]:
    path, header = Path(text), Path(text + ".hea")
    if not text:
        raise SourceError("''", "is an empty path", _HINT)
    try:
        if path.is_dir():
            refs = list(_in_folder(path))
        elif path.is_file():
            return [_named_file(path)]
        elif header.is_file():
            return [SourceRef("wfdb", header, header.stem)]
        elif glob.has_magic(text):
            refs = list(_in_glob(text))
        else:
            raise SourceError(text, "does not exist", _HINT)
    except (OSError, ValueError) as error:  # ValueError: a NUL byte in the path
        raise SourceError(text, f"cannot be searched: {error}", "Check the path and that you may read it.") from error
    if not refs:
        raise SourceError(text, "holds no ECG file", _HINT)
    return refs


def _named_file(path: Path) -> SourceRef:
    """A file the user named: it must be something we read."""
    if ref := _reference(path):
        return ref
    header = path.with_suffix(".hea")
    if header.is_file():
        raise SourceError(str(path), "is a part of a WFDB record", f"Give its header, {header}.")
    raise SourceError(str(path), f"is not a format we read ('{path.suffix}')", _HINT)


def _in_glob(pattern: str) -> Iterator[SourceRef]:
    for match in glob.iglob(pattern, recursive=True):
        path = Path(match)
        if path.is_dir():
            yield from _in_folder(path)
        elif ref := _unless_bystander(path):
            yield ref


def _in_folder(folder: Path) -> Iterator[SourceRef]:
    def unreadable(error: OSError) -> None:
        raise error

    for parent, folders, files in os.walk(folder, onerror=unreadable):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in files:
            if ref := _unless_bystander(Path(parent, name)):
                yield ref


def _unless_bystander(path: Path) -> SourceRef | None:
    name = path.name.lower()
    if name.startswith(".") or any(fnmatch(name, pattern) for pattern in _BYSTANDERS):
        return None
    return _reference(path)


def _reference(path: Path) -> SourceRef | None:
    """A reference when the extension is one of ours; whether the content is, shows when it is opened."""
    suffix = path.suffix.lower()
    if path.suffix == ".hea":  # wfdb opens lower case only
        return SourceRef("wfdb", path, path.stem)
    if suffix == ".edf":
        return SourceRef("edf", path, path.stem)
    if suffix in _TEXT:
        is_table = suffix == ".csv" and not _starts_with_numbers(path)
        return SourceRef("csv" if is_table else "ucr", path, path.stem)
    return None


def _starts_with_numbers(path: Path) -> bool:
    """True when the first line is numbers only: UCR, which has no header row."""
    try:
        with path.open(encoding="utf-8-sig", errors="replace") as file:
            cells = re.split(r"[,;\s]+", file.readline(1 << 20).strip())
    except OSError:
        return False  # opening it will say why
    try:
        return len([float(cell) for cell in cells]) >= _UCR_MIN_CELLS
    except ValueError:
        return False


def _segments_of(found: Mapping[Path, SourceRef]) -> set[Path]:
    """Headers that a multi-segment record among these names; records that name each other are left to the reader."""
    named = {path: _segment_headers(ref.path) - {path} for path, ref in found.items() if ref.format == "wfdb"}
    inner = set().union(*named.values())
    return set().union(*(segments for path, segments in named.items() if path not in inner))


def _segment_headers(header: Path) -> set[Path]:
    """Headers of the segments that a multi-segment record in the same folder names; empty for others."""
    try:
        text = header.read_text(encoding="ascii", errors="ignore")
    except OSError:
        return set()  # opening it will say why
    lines = [line.split() for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    if not lines or not re.fullmatch(r"[-\w]+/\d+", lines[0][0]):
        return set()
    return {header.with_name(fields[0] + ".hea").resolve() for fields in lines[1:] if fields[0] != "~"}
