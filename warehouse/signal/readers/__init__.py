"""Readers: WFDB, EDF/EDF+, CSV and UCR text, all as `SignalSource` or `PrecutSource`."""

from configs.errors import SourceError
from warehouse.signal.ecg import SignalSource
from warehouse.signal.readers.base import PrecutSource, SourceRef
from warehouse.signal.readers.discovery import find_sources

__all__ = ["PrecutSource", "SourceRef", "find_sources", "open_source", "read_ucr"]


def open_source(ref: SourceRef) -> SignalSource:
    """Opens a recording: checks its files against each other, reads the header, no samples yet.

    No file stays open between reads.

    Args:
        ref: from `find_sources`, of format wfdb, edf or csv.

    Raises:
        SourceError: a file is missing, damaged or not what it says; names the file and what to do.
    """
    # Imported on use: wfdb and pandas take a second to load, and finding sources needs neither.
    if ref.format == "wfdb":
        from warehouse.signal.readers.wfdb import WfdbSource

        return WfdbSource(ref)
    if ref.format == "edf":
        from warehouse.signal.readers.edf import EdfSource

        return EdfSource(ref)
    if ref.format == "csv":
        from warehouse.signal.readers.csv import CsvSource

        return CsvSource(ref)
    raise SourceError(str(ref.path), f"format '{ref.format}' is not a recording", "Windows of UCR text go to read_ucr.")


def read_ucr(ref: SourceRef) -> PrecutSource:
    """Reads a UCR text file: see `warehouse.signal.readers.ucr.read_windows`."""
    from warehouse.signal.readers.ucr import read_windows

    return read_windows(ref)
