"""The work list: what is to be reviewed, the most anomalous first."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Final

from fastapi import APIRouter, Depends, Query
from fastapi.responses import HTMLResponse

from api.deferral import reasons_to_defer
from api.queries import MAX_ID, parse_anomaly_id
from api.ui.audited import READS_STRIP
from api.ui.drawing import Drawing
from api.ui.page import Page, PageDep
from api.ui.strips import thumbnail
from configs.contract import FeatureSpec
from warehouse.store.records import AnomalyFilter
from warehouse.store.review_state import CONFIRMED, CONFLICT, REJECTED, REVIEW_LABELS, SETTLED, UNREVIEWED, UNSURE

PAGE_SIZE: Final = 50
#: Tabs of the list, and the review statuses on each.
TABS: Final[Mapping[str, tuple[str, ...]]] = {
    "open": (UNREVIEWED,),
    "second": (UNSURE,),
    "conflict": (CONFLICT,),
    "confirmed": (CONFIRMED,),
    "rejected": (REJECTED,),
    "settled": (SETTLED,),
    "all": (UNREVIEWED, UNSURE, CONFLICT, CONFIRMED, REJECTED, SETTLED),
}

router = APIRouter(include_in_schema=False)


@dataclass(frozen=True)
class WorkList:
    """Which anomalies are on the list, and in which order."""

    tab: str
    sort: str
    recording: str | None
    lead: str | None
    min_score: float | None
    label: str | None
    patient: str | None

    def query(self) -> dict[str, Any]:
        """The list as query parameters, without what goes without saying."""
        given = {
            "tab": self.tab if self.tab != "open" else None,
            "sort": self.sort if self.sort != "score" else None,
            "recording": self.recording,
            "lead": self.lead,
            "min_score": None if self.min_score is None else f"{self.min_score:g}",
            "label": self.label,
            "patient": self.patient,
        }
        return {key: value for key, value in given.items() if value is not None}

    def where(self, page: Page, model_version: int | None = None) -> AnomalyFilter:
        """As the database takes it, within the reader's site.

        Args:
            model_version: found by; when None, or when it serves, each recording's are of the version that serves it.
        """
        release = page.services.models.release()
        served = model_version is None or model_version in (release.stable, release.canary)
        site, recordings = page.reader.site, None
        if self.patient is not None:
            recordings = page.services.stores.warehouse.named_recordings(site, pseudonym=self.patient)
        return AnomalyFilter(
            release.stable if model_version is None else model_version, release=release if served else None, site=site,
            recording=self.recording, recordings=recordings, lead=self.lead,
            min_score=self.min_score, label=self.label, review_status=None if self.tab == "all" else TABS[self.tab],
        )  # fmt: skip

    @property
    def order(self) -> str:
        return "-score" if self.sort == "score" else "time"

    @property
    def reverse_order(self) -> str:
        return "score" if self.sort == "score" else "-time"

    def position(self, row: Mapping[str, Any]) -> tuple[Any, int]:
        return (row["score"] if self.sort == "score" else row["recorded_at"], row["window_id"])


def _work_list(
    tab: Annotated[str, Query(max_length=20)] = "open",
    sort: Annotated[str, Query(max_length=20)] = "score",
    recording: Annotated[str, Query(max_length=200)] = "",
    lead: Annotated[str, Query(max_length=200)] = "",
    min_score: Annotated[str, Query(max_length=20)] = "",
    label: Annotated[str, Query(max_length=20)] = "",
    patient: Annotated[str, Query(max_length=200)] = "",
) -> WorkList:
    """Filters as a form sends them: what is empty does not filter."""
    try:
        least = float(min_score.replace(",", ".")) if min_score.strip() else None
    except ValueError:
        least = None
    return WorkList(
        tab if tab in TABS else "open",
        sort if sort in ("score", "time") else "score",
        recording.replace("\0", "").strip() or None,
        lead.replace("\0", "").strip() or None,
        least if least is not None and abs(least) < 1e6 else None,
        label if label in REVIEW_LABELS else None,
        patient.replace("\0", "").strip() or None,
    )


WorkListDep = Annotated[WorkList, Depends(_work_list)]


@router.get("/ui", dependencies=[READS_STRIP])
def work_list(
    page: PageDep,
    listing: WorkListDep,
    after: Annotated[str, Query(max_length=60)] = "",
    undo: Annotated[int | None, Query(ge=1, le=MAX_ID)] = None,
) -> HTMLResponse:
    """The list, fifty beats a page, each with its picture."""
    model, release = page.services.models.stable(), page.services.models.release()
    results = page.services.stores.results
    where = listing.where(page)
    position = _position_after(page, listing, after)
    rows = results.anomalies(where, sort=listing.order, after=position, limit=PAGE_SIZE + 1)
    counts = results.review_counts(release, page.reader.site)
    shown = rows[:PAGE_SIZE]
    return page.html(
        "worklist.html", rows=shown, listing=listing, tabs=_tab_counts(counts), model=model, undo=undo,
        pictures=_pictures(page, shown), reasons=[reasons_of(page, row) for row in shown],
        labels=REVIEW_LABELS, next_after=anomaly_id(shown[-1]) if len(rows) > PAGE_SIZE else None,
    )  # fmt: skip


def neighbours_of(
    page: Page, listing: WorkList, row: Mapping[str, Any], *, beyond_episode: int | None = None
) -> tuple[str | None, str | None]:
    """Ids of the anomalies before and after one on the list.

    Args:
        beyond_episode: the one after must not be of this episode, whose beats are all about to be reviewed.
    """
    results = page.services.stores.results
    where, position = listing.where(page, row["model_version"]), listing.position(row)
    before = results.anomalies(where, sort=listing.reverse_order, after=position, limit=1)
    after = results.anomalies(where, sort=listing.order, after=position, limit=1)
    while after and beyond_episode is not None and after[0]["episode_id"] == beyond_episode:
        after = results.anomalies(where, sort=listing.order, after=listing.position(after[0]), limit=1)
    return anomaly_id(before[0]) if before else None, anomaly_id(after[0]) if after else None


def anomaly_id(row: Mapping[str, Any]) -> str:
    """`<model_version>-<window_id>`, as the API names anomalies."""
    return f"{row['model_version']}-{row['window_id']}"


def reasons_of(page: Page, row: Mapping[str, Any]) -> list[str]:
    """Why a human should look at a result before anything is done with it."""
    own = row.get("threshold")  # where it follows the recording
    threshold = page.services.models.version(row["model_version"]).threshold if own is None else own
    return reasons_to_defer(
        page.services.settings, score=row["score"], threshold=threshold, familiarity=row.get("familiarity"),
        quality=row.get("quality"), known=row.get("quality") is not None,
    )  # fmt: skip


def _position_after(page: Page, listing: WorkList, after: str) -> tuple[Any, int] | None:
    """Where the last page ended: at an anomaly, which may have left the list since."""
    if not after:
        return None
    row = page.services.stores.results.anomaly(*parse_anomaly_id(after), site=page.reader.site)
    return listing.position(row)


def _tab_counts(counts: Mapping[str, int]) -> dict[str, int]:
    return {tab: sum(counts.get(status, 0) for status in statuses) for tab, statuses in TABS.items()}


def _pictures(page: Page, rows: list[dict[str, Any]]) -> dict[int, list[Drawing]]:
    """Each beat on the page, small, a drawing a usable lead."""
    warehouse = page.services.stores.warehouse
    slots = warehouse.lead_slots_of([row["window_id"] for row in rows])
    pictures: dict[int, list[Drawing]] = {}
    for version in {row["model_version"] for row in rows}:
        spec = FeatureSpec.model_validate(page.services.models.version(version).feature_spec)
        wanted = [row["window_id"] for row in rows if row["model_version"] == version]
        block = warehouse.read_windows(spec, wanted)
        for i, window_id in enumerate(block.window_id.tolist()):
            pictures[window_id] = [
                thumbnail(block, i, slot, spec.sampling_rate_hz, page.words("worklist.picture", lead=lead))
                for slot, lead in enumerate(slots.get(window_id, ()))
                if lead and block.lead_mask[i, slot]
            ]
    return pictures
