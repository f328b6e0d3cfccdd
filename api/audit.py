"""The audit trail: a read of a strip, or an administrator's act, is on record before it is answered."""

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import parse_qsl, urlencode

from fastapi import Depends, Request

from api.access import ADMIN, EXPORT, READ, Principal
from api.deps import PrincipalDep
from api.queries import parse_anomaly_id
from configs.errors import EcgError
from warehouse.store.audit_queries import Act
from warehouse.store.erasure_queries import subject_digest
from warehouse.store.results import Results

READ_STRIP: Final = "read"
_IDS: Final = {"anomaly_id", "episode_id"}


class AuditTrail:
    """Adds to the audit log. Safe to share between threads: who come at the same time are added in one statement."""

    def __init__(self, results: Results) -> None:
        self._results = results
        self._lock = threading.Lock()
        self._writing = threading.Lock()
        self._waiting: list[_Entry] = []

    def record(self, act: Act) -> None:
        """Returns when it is committed.

        Raises:
            UnavailableError: it cannot be; what was asked must not be answered then.
        """
        entry = _Entry(act)
        with self._lock:
            self._waiting.append(entry)
        with self._writing:  # whoever had it before may have written this entry too
            if not entry.done:
                with self._lock:
                    batch, self._waiting = self._waiting, []
                self._write(batch)
        if entry.error is not None:
            raise entry.error

    def _write(self, batch: "list[_Entry]") -> None:
        error: BaseException | None = RuntimeError("the audit log was not written")
        try:
            self._results.add_acts([entry.act for entry in batch])
            error = None
        except EcgError as failed:
            error = failed
        finally:
            for entry in batch:
                entry.done, entry.error = True, error


@dataclass
class _Entry:
    act: Act
    done: bool = False
    error: BaseException | None = None


def _on_record(action: str, scope: str) -> Any:
    def record(request: Request, principal: PrincipalDep) -> None:
        principal.require(scope)
        for name in _IDS & request.path_params.keys():  # what can be no id is answered without a look at a database
            parse_anomaly_id(request.path_params[name], name)
        note(request, principal, action)

    return Depends(record)


def _admins_on_record(action: str) -> Callable[..., None]:
    def record(request: Request, principal: PrincipalDep) -> None:
        if principal.may(ADMIN):
            note(request, principal, action)

    return record


def note(request: Request, principal: Principal, action: str) -> None:
    """Puts a request on record; raises as `AuditTrail.record`."""
    trail: AuditTrail = request.app.state.audit
    query = [
        # A pseudonym would stay in the log when everything else of the patient is erased.
        (name, subject_digest(principal.site, value) if name == "patient" else value)
        for name, value in parse_qsl(request.url.query, keep_blank_values=True)
    ]
    trail.record(Act(principal.name, principal.role, principal.site, action, request.url.path, urlencode(query)))


#: Dependencies of operations: `dependencies=[READS_STRIP]`.
READS_STRIP: Final = _on_record(READ_STRIP, READ)
EXPORTS: Final = _on_record("export", EXPORT)
ADMIN_REVIEWS: Final = Depends(_admins_on_record("review"))
ADMIN_UPLOADS: Final = Depends(_admins_on_record("upload"))
