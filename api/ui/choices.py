"""What a reader chooses for good: language, light or dark. And whatever else is asked for under /ui."""

from fastapi import APIRouter
from fastapi.responses import Response

from api.ui.i18n import LANGUAGES
from api.ui.page import THEMES, FormDep, PageDep, keep, local_path, see_other

router = APIRouter(include_in_schema=False)


@router.post("/ui/choices")
def choose(page: PageDep, form: FormDep) -> Response:
    """Keeps the choices in cookies and goes back to where the reader was."""
    response = see_other(local_path(form.get("back")))
    if form.get("lang") in LANGUAGES:
        keep(response, "lang", form["lang"])
    if form.get("theme") in THEMES:
        keep(response, "theme", form["theme"])
    return response
