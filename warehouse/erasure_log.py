"""Who was erased, noted outside the databases: a backup that is older than an erasure is told of it when it comes back.

A line of JSON an erasure, only added to. Patients are told by the digest of a keyed pseudonym, which cannot be turned
back; whoever holds a backup can tell by it which of the backup's pseudonyms were erased, and no more.
"""

import json
import os
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from configs.errors import SourceError, StorageError
from configs.settings import Settings

LOG_FILE: Final = "erasures.jsonl"


@dataclass(frozen=True)
class Noted:
    """One erasure.

    Attributes:
        subject: `erasure_queries.subject_digest` of the patient.
        started_at: as in the table `erasures`: with it, a restored database knows whether this one is in it.
    """

    subject: str
    started_at: str

    @classmethod
    def of_row(cls, row: dict[str, Any]) -> "Noted":
        """The line about a row of the table `erasures`."""
        return cls(row["subject"], row["started_at"].isoformat())


def log_of(settings: Settings) -> Path:
    """Where this installation notes its erasures."""
    return settings.privacy.erasure_log or settings.data_dir / LOG_FILE


def read_log(path: Path) -> list[Noted]:
    """What a log says, in order; nothing, if there is none.

    Raises:
        SourceError: it is no such log.
    """
    try:
        lines = path.read_text("utf-8").splitlines() if path.exists() else []
        return [Noted(**json.loads(line)) for line in lines if line]
    except (OSError, ValueError, TypeError) as error:
        raise SourceError(str(path), f"is no log of erasures ({error})", "Take a copy of it that is whole.") from error


def note(path: Path, erasures: Iterable[Noted]) -> None:
    """Adds what a log does not have yet; on disk when this returns.

    Raises:
        StorageError: it cannot be written.
    """
    known = set(read_log(path))
    lines = [json.dumps(asdict(one)) + "\n" for one in dict.fromkeys(erasures) if one not in known]
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a", encoding="utf-8") as file:
            file.write("".join(lines))
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        problem = f"the log of erasures cannot be written ({error.strerror})"
        raise StorageError(str(path), problem, "See privacy.erasure_log; run again.") from error
