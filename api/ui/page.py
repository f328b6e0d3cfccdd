"""What every page is made with: who asks, in which language, on what paper; and how it is answered."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Final
from urllib.parse import parse_qs, urlencode

from fastapi import Depends, Request, Response
from fastapi.responses import HTMLResponse, RedirectResponse
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from starlette.concurrency import run_in_threadpool

from api.access import READ, REVIEW, Principal, check_csrf
from api.deps import Services, ServicesDep
from api.problems import RefusedError
from api.ui.drawing import Drawing
from api.ui.i18n import LANGUAGES, Words, choose_language
from api.ui.paper import GAINS_MM_MV, SPEEDS_MM_S, Paper
from warehouse.store.connection import enter_site

HERE: Final = Path(__file__).parent
COOKIES: Final = {"lang": "ecg_lang", "theme": "ecg_theme", "speed": "ecg_speed", "gain": "ecg_gain"}
THEMES: Final = ("auto", "light", "dark")
PX_PER_MM: Final = 96 / 25.4
SIDE_MM: Final = 306 / PX_PER_MM
NARROW_MM: Final = 1066 / PX_PER_MM
HEADERS: Final = {
    # Patients' data: nothing from elsewhere runs here, nobody frames it, and no cache keeps it.
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'",
    "Cache-Control": "no-store",
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
}

_environment = Environment(
    loader=FileSystemLoader(HERE / "templates"), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
    lstrip_blocks=True,
)  # fmt: skip


@dataclass(frozen=True)
class Page:
    """One request for a page."""

    request: Request
    services: Services
    words: Words
    theme: str
    paper: Paper
    signed_in: Principal | None

    @property
    def reader(self) -> Principal:
        """Who looks at the page; there is somebody on every page but those that `StrangerDep` makes."""
        assert self.signed_in is not None
        return self.signed_in

    @property
    def may_review(self) -> bool:
        return self.reader.may(REVIEW)

    def check_form(self, form: Mapping[str, str]) -> None:
        """Refuses a posted form that is not of this page, or that its reader may not post.

        Raises:
            RefusedError: 403.
        """
        check_csrf(self.reader, form.get("csrf", ""))
        self.reader.require(REVIEW)

    @property
    def width_mm(self) -> float:
        """Width of the browser's main column, as it last said; that of a common screen until then."""
        text = self.request.query_params.get("width") or self.request.cookies.get("ecg_width", "")
        px = int(text) if text.isascii() and text.isdigit() and len(text) <= 5 else 1240
        return min(max(px, 320), 5000) / PX_PER_MM

    @property
    def column_mm(self) -> float:
        """Width left of the review panel, which is beside the strip where there is room (see the style sheet)."""
        return self.width_mm - (SIDE_MM if self.width_mm > NARROW_MM else 0.0)

    def html(self, template: str, *, status: int = 200, **context: Any) -> HTMLResponse:
        """A page from a template."""
        shared = {
            "page": self, "signed_in": self.signed_in, "t": self.words, "lang": self.words.language,
            "languages": LANGUAGES, "theme": self.theme, "path": self.request.url.path, "svg": _svg,
            "paper": self.paper, "speeds": SPEEDS_MM_S, "gains": GAINS_MM_MV, "url": with_query, "here": self.here,
            "to_json": _to_json, "static": static_url,
        }  # fmt: skip
        text = _environment.get_template(template).render(**shared, **context)
        response = HTMLResponse(text, status_code=status, headers=dict(HEADERS))
        for name in ("speed", "gain"):  # asked for once, kept
            if name in self.request.query_params:
                keep(response, name, f"{getattr(self.paper, name):g}")
        return response

    @property
    def here(self) -> str:
        """Path and query of this page."""
        return asked_for(self.request)


def stranger(request: Request, services: ServicesDep) -> Page:
    """A page for whoever asks, signed in or not."""
    query, cookies = request.query_params, request.cookies
    language = choose_language(cookies.get(COOKIES["lang"]), request.headers.get("accept-language", ""))
    theme = cookies.get(COOKIES["theme"], "auto")
    paper = Paper.parse(*(query.get(name) or cookies.get(COOKIES[name]) for name in ("speed", "gain")))
    return Page(request, services, Words(language), theme if theme in THEMES else "auto", paper, None)


StrangerDep = Annotated[Page, Depends(stranger)]


async def _page(page: StrangerDep) -> Page:
    """A page for somebody who may read.

    Raises:
        SignInNeededError: nobody is signed in.
        RefusedError: they may not, or ask too often.
    """
    access = page.services.access
    principal = await run_in_threadpool(access.principal, page.request, check_csrf_header=False)
    if principal is None:
        raise SignInNeededError
    page.services.limits.take(principal.credential)
    principal.require(READ)
    enter_site(principal.site)  # here, not in a thread: what is set there is lost
    return replace(page, signed_in=principal)


PageDep = Annotated[Page, Depends(_page)]


class SignInNeededError(Exception):
    """Nobody is signed in: the reader is sent to sign in, and then back."""


async def _form(request: Request) -> Mapping[str, str]:
    """The fields of a posted form, the first value of each. Nothing here is longer than a comment."""
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > 64_000:
            raise RefusedError("too-large", "The form is too long. Shorten the comment.")
    fields = parse_qs(body.decode("utf-8", errors="replace"), keep_blank_values=True, max_num_fields=100)
    return {name: values[0] for name, values in fields.items()}


FormDep = Annotated[Mapping[str, str], Depends(_form)]


def keep(response: Response, name: str, value: str) -> None:
    """Remembers a choice in a cookie for a year; it says nothing of anybody."""
    response.set_cookie(COOKIES[name], value, max_age=365 * 86400, path="/ui", samesite="strict", httponly=True)


def see_other(url: str) -> RedirectResponse:
    """After a form was posted: the page to look at next."""
    return RedirectResponse(url, status_code=303, headers={"Cache-Control": "no-store"})


def with_query(path: str, query: Mapping[str, Any] | None = None, **more: Any) -> str:
    """`path` with query parameters; those that are None or empty are left out."""
    given = {**(query or {}), **more}
    text = urlencode({key: value for key, value in given.items() if value not in (None, "")})
    return f"{path}?{text}" if text else path


def local_path(text: str | None) -> str:
    """`text` where it is a path of these pages, else the first page: nobody is sent elsewhere."""
    fine = text is not None and (text == "/ui" or text.startswith(("/ui/", "/ui?"))) and "\\" not in text
    return str(text) if fine and text is not None and text.isprintable() else "/ui"


def asked_for(request: Request) -> str:
    """Path and query to come back to; a posted form is not posted again."""
    if request.method != "GET":
        return "/ui"
    return request.url.path + (f"?{request.url.query}" if request.url.query else "")


def _svg(drawing: Drawing, css_class: str = "drawing") -> Markup:
    return Markup(drawing.svg(css_class))


@cache
def static_url(name: str) -> str:
    """Address of a file of `static/`, with a digest of its content: browsers may keep it until it is another."""
    digest = hashlib.sha256((HERE / "static" / name).read_bytes()).hexdigest()
    return f"/ui/static/{name}?v={digest[:12]}"


def _to_json(value: Any) -> Markup:
    """JSON for a data block in the page: no text in it can end the block."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return Markup(text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e"))
