"""Signing in and out of the page. A session is the API's own: an http-only, same-site cookie."""

from urllib.parse import urlsplit

from fastapi import APIRouter
from fastapi.responses import Response

from api.access import COOKIE, check_csrf, set_session_cookie
from api.problems import RefusedError
from api.ui.i18n import told
from api.ui.page import FormDep, Page, PageDep, StrangerDep, local_path, see_other

router = APIRouter(include_in_schema=False)


@router.get("/ui/sign-in")
def sign_in_form(page: StrangerDep, back: str = "/ui") -> Response:
    """Asks for a key."""
    return page.html("sign_in.html", back=local_path(back), problem="")


@router.post("/ui/sign-in")
def sign_in(page: StrangerDep, form: FormDep) -> Response:
    """Opens a session and goes back to where the reader was."""
    _refuse_other_sites(page)
    back = local_path(form.get("back"))
    try:
        cookie, _ = page.services.access.sign_in(form.get("key", "").strip())
    except RefusedError as error:
        return page.html(
            "sign_in.html",
            status=error.status_code,
            back=back,
            problem=told(page.words.language, {"type": error.slug, "detail": error.detail}),
        )
    response = see_other(back)
    set_session_cookie(page.request, response, page.services.settings, cookie)
    return response


@router.post("/ui/sign-out")
def sign_out(page: PageDep, form: FormDep) -> Response:
    """Ends the session."""
    check_csrf(page.reader, form.get("csrf", ""))
    cookie = page.request.cookies.get(COOKIE)
    if cookie:
        page.services.access.sign_out(cookie)
    response = see_other("/ui/sign-in")
    response.delete_cookie(COOKIE)
    return response


def _refuse_other_sites(page: Page) -> None:
    """Nobody is signed in from another site's page, as somebody else, unnoticed.

    Raises:
        RefusedError: 403.
    """
    origin, host = page.request.headers.get("origin"), page.request.headers.get("host")
    if origin is not None and urlsplit(origin).netloc != host:
        raise RefusedError("forbidden", "Other sites' pages may not sign anybody in.")
