"""How right the model is, by what reviewers said, and where it errs."""

from fastapi import APIRouter
from fastapi.responses import HTMLResponse

from api.estimates import precision_of, recall_of
from api.ui.page import PageDep

router = APIRouter(include_in_schema=False)


@router.get("/ui/analysis")
def analysis(page: PageDep) -> HTMLResponse:
    """Precision and recall with their intervals; confirmed and rejected beats by cause, class, lead, ..."""
    model, results = page.services.models.stable(), page.services.stores.results
    judged = results.judged(model.model_version, page.reader.site)
    return page.html(
        "analysis.html", model=model, judged=judged, precision=precision_of(judged.confirmed, judged.rejected),
        recall=recall_of(judged), counts=results.error_counts(model.model_version, page.reader.site),
        term_groups={"cause": "cause", "label": "label"},
    )  # fmt: skip
