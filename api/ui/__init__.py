"""The review page: server-rendered, without a build step, without a network beyond this service."""

from typing import Any

from fastapi import FastAPI, Response
from fastapi.staticfiles import StaticFiles

from api.ui import analysis, beat, choices, errors, recordings, report, sign_in, threshold, worklist
from api.ui.opened import BeatCache
from api.ui.page import HERE


def install(app: FastAPI) -> None:
    """Adds the page and its files under /ui."""
    app.state.beat_cache = BeatCache()
    app.mount("/ui/static", _Static(directory=HERE / "static"), name="ui-static")
    for routes in (worklist, beat, recordings, report, threshold, analysis, sign_in, choices):
        app.include_router(routes.router)
    errors.install(app)


class _Static(StaticFiles):
    """Scripts and styles, which pages name by their digest."""

    def file_response(self, *args: Any, **more: Any) -> Response:
        response = super().file_response(*args, **more)
        response.headers["Cache-Control"] = "public, max-age=86400"
        return response
