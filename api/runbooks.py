"""The runbooks of docs/runbooks/ over HTTP: what alerts and dashboards link to. No data are in them: no sign-in."""

from pathlib import Path

from fastapi import APIRouter, Response

from configs.errors import NotFoundError

RUNBOOKS = Path(__file__).parents[1] / "docs" / "runbooks"

router = APIRouter(prefix="/runbooks", include_in_schema=False)


@router.get("")
def get_runbook_index() -> Response:
    """The list of alerts."""
    return get_runbook("README")


@router.get("/{alert}")
def get_runbook(alert: str) -> Response:
    """What to do about an alert, as Markdown."""
    pages = {path.stem: path for path in RUNBOOKS.glob("*.md")}
    if alert.removesuffix(".md") not in pages:
        raise NotFoundError(f"runbook {alert}", "does not exist", "GET /runbooks lists them.")
    text = pages[alert.removesuffix(".md")].read_text(encoding="utf-8")
    return Response(text, media_type="text/plain; charset=utf-8", headers={"X-Content-Type-Options": "nosniff"})
