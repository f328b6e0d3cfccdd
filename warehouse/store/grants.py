"""Which role may do what in which database: least privilege, as data."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

READ_WRITE: Final = "SELECT, INSERT, UPDATE"
READ_WRITE_DELETE: Final = "SELECT, INSERT, UPDATE, DELETE"


@dataclass(frozen=True)
class Grants:
    """What a role may do in one database.

    Attributes:
        reads: every table may be read, but for those in `hidden`; of those in `columns` only the columns that are not
            named there.
        writes: further privileges by table; a name that ends with * stands for all tables that begin so.
        functions: it may call.
    """

    reads: bool = False
    hidden: tuple[str, ...] = ()
    columns: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    writes: Mapping[str, str] = field(default_factory=dict)
    functions: tuple[str, ...] = ()


@dataclass(frozen=True)
class Role:
    """A database role.

    Attributes:
        by_site: sees and writes rows of the site alone that the transaction names (`ecg.site`); others serve all sites.
        member_of: PostgreSQL's own role that it has the rights of; it reads no table of ours then.
    """

    purpose: str
    warehouse: Grants
    results: Grants
    by_site: bool = False
    member_of: str | None = None


_SECRET: Final = ("api_keys", "sessions", "audit_log", "erasures")
_SCORE_TABLES: Final = (
    "scores", "shadow_scores", "anomalies", "episodes", "recording_summaries", "score_failures", "scoring_work",
    "scoring_runs",
)  # fmt: skip
_INGESTED: Final = (
    "feature_versions", "patients", "recordings", "window_sets", "windows", "signal_chunks", "unusable_spans",
    "dead_letters", "uploads",
)  # fmt: skip

#: Who owns the tables migrates, makes keys, releases, erases and backs up. The processes that run need no more than:
ROLES: Final[Mapping[str, Role]] = {
    "ecg_ingest": Role(
        "python -m warehouse.ingest, warehouse.uploads, pipelines.bootstrap recordings",
        Grants(
            reads=True, hidden=("labels",), writes=dict.fromkeys(_INGESTED, READ_WRITE), functions=("make_partition",)
        ),
        Grants(writes={"releases": "SELECT"}),  # whether an installation still has to be given its first recordings
    ),
    "ecg_trainer": Role(
        "python -m pipelines.train, pipelines.retrain, pipelines.skew, pipelines.bootstrap model",
        Grants(reads=True, hidden=("uploads",), writes={"data_spans": READ_WRITE, "labels": READ_WRITE}),
        Grants(
            reads=True,
            hidden=_SECRET,
            columns={"reviews": ("comment", "reviewer")},
            writes={
                "model_versions": READ_WRITE, "model_*": READ_WRITE, "training_runs": READ_WRITE, "releases": "INSERT",
                "audit_log": "INSERT", "review_states": "UPDATE", "retrain*": READ_WRITE, "drift_*": READ_WRITE,
            },
        ),
    ),
    "ecg_scorer": Role(
        "python -m pipelines.score",
        Grants(reads=True, hidden=("uploads",)),
        Grants(
            reads=True,
            hidden=(*_SECRET, "reviews"),
            writes=dict.fromkeys(_SCORE_TABLES, READ_WRITE_DELETE),
        ),
    ),
    "ecg_api": Role(
        "python -m api",
        Grants(reads=True, writes={"uploads": "INSERT", "labels": "INSERT"}),
        Grants(
            reads=True,
            hidden=("audit_log", "erasures"),
            writes={
                "reviews": "INSERT", "review_states": "INSERT, UPDATE", "sessions": "INSERT, DELETE",
                "api_keys": "UPDATE (last_used_at)", "audit_log": "INSERT", "retraining_requests": "INSERT",
            },
        ),
        by_site=True,
    ),
    "ecg_monitor": Role(
        "python -m monitoring.exporter, monitoring.drift",
        Grants(
            reads=True,
            hidden=("labels",),
            columns={"uploads": ("created_by", "idempotency_key", "digest", "files", "patients", "problem")},
        ),
        Grants(
            reads=True,
            hidden=("sessions", "erasures"),
            columns={"reviews": ("comment",), "api_keys": ("secret_sha256",)},  # reviewing time is told by reviewer
            writes={"drift*": READ_WRITE_DELETE},
        ),
    ),
    "ecg_exporter": Role("postgres-exporter: the server's figures", Grants(), Grants(), member_of="pg_monitor"),
}  # fmt: skip
