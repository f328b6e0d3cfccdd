"""A load on the stack: requests at a rate, whatever becomes of them."""

import itertools
import math
import threading
import time
from collections import Counter
from dataclasses import dataclass, field

import httpx
from stack import Stack

_CLIENTS = 40


@dataclass
class Load:
    """What came of it.

    Attributes:
        statuses: HTTP status to how often.
        uploads: ids of what was acknowledged.
        without_retry_after: refusals that did not say when to come again.
        slowest_s: of all requests.
    """

    statuses: Counter[int] = field(default_factory=Counter)
    uploads: list[str] = field(default_factory=list)
    without_retry_after: int = 0
    slowest_s: float = 0.0


def offered(stack: Stack, *, per_second: float, seconds: float) -> Load:
    """Offers requests: of four, three list anomalies and one scores a strip of 10 s; each hundredth posts a recording.

    Who is refused does not wait as it is told to.
    """
    load, lock, tickets, start = Load(), threading.Lock(), itertools.count(), time.monotonic()

    def ask(client: httpx.Client, ticket: int) -> httpx.Response:
        if ticket % 100 == 0:
            return client.post("/recordings", files={"file": stack.recording()})
        if ticket % 4 == 0:
            return client.post("/score", json={"strip": _STRIP, "detail": "scores"})
        return client.get("/anomalies", params={"page_size": 50})

    def work() -> None:
        with httpx.Client(base_url=stack.api.base_url, headers=stack.api.headers, timeout=60) as client:
            while (due := (ticket := next(tickets)) / per_second) < seconds:
                time.sleep(max(0.0, start + due - time.monotonic()))
                asked = time.monotonic()
                response = ask(client, ticket)
                with lock:
                    load.statuses[response.status_code] += 1
                    load.slowest_s = max(load.slowest_s, time.monotonic() - asked)
                    load.without_retry_after += response.status_code in (429, 503) and (
                        "Retry-After" not in response.headers
                    )
                    if response.status_code == 202:
                        load.uploads.append(str(response.json()["upload_id"]))

    threads = [threading.Thread(target=work) for _ in range(_CLIENTS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return load


def _beats(rate_hz: int, apart_s: float, n: int) -> list[float]:
    apart = round(apart_s * rate_hz)
    beat = [math.exp(-0.5 * ((i - apart // 2) / (0.012 * rate_hz)) ** 2) for i in range(apart)]
    return beat * n


_STRIP = {"sampling_rate_hz": 250, "leads": ["II"], "samples": [_beats(250, 0.8, 12)], "units": "mV"}
