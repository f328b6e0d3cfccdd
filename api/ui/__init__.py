"""The review page: server-rendered, without a build step, without a network beyond this service."""

from fastapi import FastAPI
from fastapi.staticfiles import StaticFiles

from api.ui import analysis, beat, choices, recordings, report, sign_in, threshold, worklist
from api.ui.opened import BeatCache
from api.ui.page import HERE


def install(app: FastAPI) -> None:
    """Adds the page and its files under /ui."""
    app.state.beat_cache = BeatCache()
    app.mount("/ui/static", StaticFiles(directory=HERE / "static"), name="ui-static")
    for routes in (worklist, beat, recordings, report, threshold, analysis, sign_in, choices):
        app.include_router(routes.router)
