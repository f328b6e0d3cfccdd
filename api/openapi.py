"""The OpenAPI document, and its page, which works without a network."""

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.docs import get_swagger_ui_html
from fastapi.responses import FileResponse, HTMLResponse, RedirectResponse, Response

from api.problems import PROBLEM_JSON
from api.schemas import Problem

DOCS_URL = "/docs"
_ASSETS_PACKAGE = "fastapi_offline"  # carries Swagger UI's files; nothing of its code is used
_ASSETS = {
    "swagger_js_url": "swagger-ui-bundle.js",
    "swagger_css_url": "swagger-ui.css",
    "swagger_favicon_url": "favicon.png",
}
_DESCRIPTIONS = {
    404: "There is no such thing.",
    422: "A parameter is wrong; `errors` says which, what is wrong and what to send.",
    503: "Something the service needs is not there; ask again after Retry-After seconds.",
}
_TAGS = [
    {"name": "anomalies", "description": "Beats flagged for review."},
    {"name": "recordings", "description": "What was ingested, and what was found in it."},
    {"name": "models", "description": "Pushed model versions."},
    {"name": "health", "description": "For whoever runs the service."},
]


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
        document.setdefault("components", {}).setdefault("schemas", {}).update({**parts, "Problem": schema})
        return document

    return openapi


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
