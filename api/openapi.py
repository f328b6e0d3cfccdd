"""The OpenAPI document, and its page, which works without a network."""

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.docs import get_swagger_ui_html
from fastapi.responses import FileResponse, HTMLResponse, RedirectResponse, Response

from api.access import COOKIE
from api.problems import PROBLEM_JSON
from api.schemas.service import Problem
from api.scoring import ScoreRequest

DOCS_URL = "/docs"
_ASSETS_PACKAGE = "fastapi_offline"  # carries Swagger UI's files; nothing of its code is used
_ASSETS = {
    "swagger_js_url": "swagger-ui-bundle.js",
    "swagger_css_url": "swagger-ui.css",
    "swagger_favicon_url": "favicon.png",
}
_WITH_FIELDS = (
    "Anomaly", "AnomalyDetail", "Episode", "Model", "Recording", "RecordingDetail", "Review", "Window",
)  # fmt: skip
_DESCRIPTIONS = {
    401: "No credentials, or wrong ones.",
    403: "Not for this role, or not without the session's CSRF token.",
    404: "There is no such thing, or it is another site's.",
    408: "The body did not come in time.",
    409: "It contradicts what is there already.",
    413: "The body is too large.",
    415: "The body is of another media type.",
    429: "Too many requests; ask again after Retry-After seconds.",
    422: "A parameter is wrong; `errors` says which, what is wrong and what to send.",
    503: "Something the service needs is not there; ask again after Retry-After seconds.",
}
_TAGS = [
    {"name": "anomalies", "description": "Beats flagged for review, and episodes of them."},
    {"name": "recordings", "description": "What was ingested, and what was found in it."},
    {"name": "reviews", "description": "What people say of beats."},
    {"name": "feedback", "description": "What reviews say of a model."},
    {"name": "score", "description": "Scoring what a caller sends."},
    {"name": "stats", "description": "Counts for charts."},
    {"name": "drift", "description": "What has moved since the model was trained."},
    {"name": "exports", "description": "Tables and episodes to take away."},
    {"name": "models", "description": "Pushed model versions."},
    {"name": "session", "description": "Signing in and out of a browser."},
    {"name": "health", "description": "For whoever runs the service."},
]


def answers(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The `responses` of an operation that needs sign-in and may end in these problems."""
    return problem_responses(401, 403, *statuses, 429)


def problem_responses(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The `responses` of an operation that may end in these problems."""
    schema = {"schema": {"$ref": "#/components/schemas/Problem"}}
    return {status: {"description": _DESCRIPTIONS[status], "content": {PROBLEM_JSON: schema}} for status in statuses}


def install(app: FastAPI) -> None:
    """Completes the document of `app` and adds its page."""
    app.openapi_tags = list(_TAGS)
    app.openapi = _with_problems(app.openapi)  # type: ignore[method-assign]  # FastAPI's own way to extend it
    urls: dict[str, Any] = _serve_assets(app)

    @app.get("/", include_in_schema=False)
    async def root() -> Response:
        return RedirectResponse(DOCS_URL)

    @app.get(DOCS_URL, include_in_schema=False)
    async def docs() -> HTMLResponse:
        return get_swagger_ui_html(openapi_url=str(app.openapi_url), title=app.title, **urls)


def _with_problems(generate: Callable[[], dict[str, Any]]) -> Callable[[], dict[str, Any]]:
    def openapi() -> dict[str, Any]:
        document = generate()  # the same object every time
        if "Problem" in document.get("components", {}).get("schemas", {}):
            return document
        schema = Problem.model_json_schema(ref_template="#/components/schemas/{model}")
        parts = schema.pop("$defs", {})
        schemas = document.setdefault("components", {}).setdefault("schemas", {})
        schemas.update({**parts, "Problem": schema})
        body = ScoreRequest.model_json_schema(ref_template="#/components/schemas/{model}")
        schemas.update({**body.pop("$defs", {}), "ScoreRequest": body})
        for name in _WITH_FIELDS:  # `fields` leaves out the others
            schemas[name].pop("required", None)
        _add_sign_in(document)
        return document

    return openapi


def _add_sign_in(document: dict[str, Any]) -> None:
    """Which credentials operations take; those that end in no 401 take none."""
    document["components"]["securitySchemes"] = {
        "bearer": {"type": "http", "scheme": "bearer", "description": "An API key, or an OIDC token."},
        "session": {"type": "apiKey", "in": "cookie", "name": COOKIE, "description": "POST /session opens one."},
    }
    for operations in document["paths"].values():
        for operation in operations.values():
            if "401" in operation["responses"]:
                operation["security"] = [{"bearer": []}, {"session": []}, {}]


def _serve_assets(app: FastAPI) -> dict[str, Any]:
    """Serves Swagger UI's files from the package that carries them.

    Returns:
        Where they are; empty when the package is not installed: the page then loads them from FastAPI's CDN.
    """
    found = importlib.util.find_spec(_ASSETS_PACKAGE)
    if found is None or not found.submodule_search_locations:
        return {}
    folder = Path(found.submodule_search_locations[0]) / "static"
    urls = {}
    for argument, name in _ASSETS.items():
        urls[argument] = f"{DOCS_URL}/{name}"
        app.get(urls[argument], include_in_schema=False)(_file(folder / name))
    return urls


def _file(path: Path) -> Callable[[], Any]:
    async def asset() -> FileResponse:
        return FileResponse(path, headers={"Cache-Control": "public, max-age=86400"})

    return asset
