"""`make pictures`: the review page as docs/images shows it, from the demo's data, in a real Chromium."""

import contextlib
import io
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import httpx
import pypdfium2 as pdfium
import typer
from PIL import Image
from playwright.sync_api import Browser, Page, sync_playwright

from configs import cli
from configs.errors import ModelUnavailableError, UnavailableError

DEMO = Path("build/demo/data")
IMAGES = Path("docs/images")
RECORDING = "200"
HIGH_BEAT = 7  # of the work list: one with its neighbours in view
DPI = 96  # of the report's first page
_BROWSERS = ("chromium", "chromium-browser", "google-chrome")
_START_WITHIN_S = 120


def main(
    data_dir: Annotated[Path, typer.Option(help="Data with a model and findings, as `make demo` leaves it.")] = DEMO,
    out: Annotated[Path, typer.Option(help="Folder of the pictures.")] = IMAGES,
) -> None:
    """Take the pictures of docs/images anew: work list, timeline, strip and report.

    Needs what `make demo` left in build/demo, and a Chromium on PATH (Debian: apt install chromium). Changes no data.
    """
    if not (data_dir / "postgres").is_dir():
        raise ModelUnavailableError(str(data_dir), "holds no model", "Run `make demo ARGS=--no-serve` first.")
    found = next(filter(None, map(shutil.which, _BROWSERS)), None)
    if found is None:
        raise UnavailableError("Chromium", "is not on PATH", "Install it (Debian: apt install chromium).")
    with _service(data_dir) as url, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=["--no-sandbox", "--disable-gpu"])
        for name in take(browser, url, out):
            cli.note(f"{out / name}")
        browser.close()


def take(browser: Browser, url: str, out: Path) -> Iterator[str]:
    """Takes each picture; yields its name when it is there."""
    page = browser.new_context(
        base_url=url, viewport={"width": 1440, "height": 940}, locale="en-GB", color_scheme="light"
    ).new_page()

    def keep(name: str, taken: Image.Image | None = None) -> str:
        taken = taken or Image.open(io.BytesIO(page.screenshot()))
        taken.convert("RGB").quantize(256).save(out / name, optimize=True)  # a third of the size, and looks the same
        return name

    page.goto("/ui")
    page.goto("/ui")  # once more: it now knows how wide the browser is
    yield keep("review-work-list.png")
    rows = page.locator("main tbody th a")
    _open(page, str(rows.nth(min(HIGH_BEAT, rows.count() - 1)).get_attribute("href")))
    yield keep("review-strip.png")
    _open(page, "/ui/recordings")
    path = str(page.locator("main tbody th a", has_text=RECORDING).get_attribute("href"))
    _open(page, path)
    yield keep("review-timeline.png")
    printed = pdfium.PdfDocument(page.request.get(f"{path}/report.pdf?episodes=3").body())
    yield keep("review-report.png", printed[0].render(scale=DPI / 72).to_pil())


def _open(page: Page, path: str) -> None:
    page.goto(path)
    page.wait_for_load_state("networkidle")


@contextlib.contextmanager
def _service(data_dir: Path) -> Iterator[str]:
    """`python -m api` on a free port, once its model is loaded."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = int(free.getsockname()[1])
    url, environment = (
        f"http://127.0.0.1:{port}",
        {**os.environ, "ECG_DATA_DIR": str(data_dir), "ECG_LOG_LEVEL": "ERROR"},
    )
    process = subprocess.Popen([sys.executable, "-m", "api", "--port", str(port)], env=environment)
    try:
        deadline = time.monotonic() + _START_WITHIN_S
        while not _is_ready(url):
            if process.poll() is not None or time.monotonic() > deadline:
                raise UnavailableError("python -m api", "did not start", "See its error above.")
            time.sleep(0.3)
        yield url
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=60)


def _is_ready(url: str) -> bool:
    try:
        return httpx.get(f"{url}/health/ready", timeout=10).status_code == 200
    except httpx.TransportError:
        return False


if __name__ == "__main__":
    cli.run(main)
