"""`python -m api.load_generator`: requests over plain sockets, from a process of its own, timed one by one.

What asks must cost little beside what is asked, or the figure says how fast the asking is: one thread, one loop over
all connections, requests made once, answers read no further than their length.
"""

import contextlib
import json
import selectors
import socket
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

Asked = tuple[str, str, bytes | None]  # method, path, body

WARM_UP = 5  # requests a connection that are not counted
_TIMEOUT_S = 60.0


@dataclass(eq=False)
class _Line:
    """A connection with one request under way."""

    line: socket.socket
    next: int
    sent_at: float = 0.0
    got: bytearray = field(default_factory=bytearray)
    length: int = -1


@dataclass
class Answered:
    """Seconds of each request, in the order of the answers, and how many were not answered 200."""

    seconds: list[float] = field(default_factory=list)
    failed: int = 0


def ask(
    port: int, clients: int, mix: Sequence[Asked], *, calls: int | None = None, for_s: float | None = None
) -> Answered:
    """Asks a service on this machine from so many connections at once, each for the next when it has its answer.

    Args:
        mix: asked in turn.
        calls: how many are counted; with `for_s`, as many as there are in that time.
    """
    requests = [_bytes(*one) for one in mix]
    counted, answered = _Counted(calls, for_s), Answered()
    with selectors.DefaultSelector() as ready:
        for number in range(clients):
            _send(_open(port, number, ready), requests)
        warm = clients * WARM_UP
        while ready.get_map():
            events = ready.select(_TIMEOUT_S)
            if not events:
                answered.failed += len(ready.get_map())
                break
            for key, _ in events:
                one: _Line = key.data
                status = _receive(one)
                if status is None:
                    continue
                if warm > 0:
                    warm -= 1
                    if warm == 0:
                        counted.start()
                elif not counted.over(len(answered.seconds)):
                    answered.seconds.append(time.perf_counter() - one.sent_at)
                    answered.failed += status != 200
                if status == 0:  # the connection ended
                    ready.unregister(one.line)
                    one.line.close()
                    one = _open(port, one.next, ready)
                if counted.over(len(answered.seconds)):  # what is under way is answered, and not counted
                    ready.unregister(one.line)
                    one.line.close()
                else:
                    _send(one, requests)
    return answered


class _Counted:
    def __init__(self, calls: int | None, for_s: float | None) -> None:
        self._calls, self._for_s = calls, for_s
        self._until = float("inf")

    def start(self) -> None:
        if self._for_s is not None:
            self._until = time.monotonic() + self._for_s

    def over(self, answered: int) -> bool:
        return (self._calls is not None and answered >= self._calls) or time.monotonic() > self._until


def _open(port: int, number: int, ready: selectors.BaseSelector) -> _Line:
    line = socket.create_connection(("127.0.0.1", port), timeout=_TIMEOUT_S)
    line.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    one = _Line(line, number)
    ready.register(line, selectors.EVENT_READ, one)
    return one


def _send(one: _Line, requests: Sequence[bytes]) -> None:
    one.got.clear()
    one.length = -1
    one.sent_at = time.perf_counter()
    with contextlib.suppress(OSError):  # seen when its answer is read
        one.line.sendall(requests[one.next % len(requests)])
    one.next += 1


def _receive(one: _Line) -> int | None:
    """The status of an answer that is whole; None before, 0 when the connection ended instead."""
    try:
        part = one.line.recv(1 << 18)
    except OSError:
        part = b""
    if not part:
        return 0
    one.got += part
    if one.length < 0:
        end = one.got.find(b"\r\n\r\n")
        if end < 0:
            return None
        head = bytes(one.got[:end]).lower()
        one.length = end + 4 + int(head.partition(b"content-length:")[2].partition(b"\r\n")[0] or 0)
    return int(one.got[9:12]) if len(one.got) >= one.length else None


def _bytes(method: str, path: str, body: bytes | None) -> bytes:
    head = f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n"
    if body is not None:
        head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n"
    return head.encode() + b"\r\n" + (body or b"")


def main() -> None:
    """Reads what to ask as JSON from standard input; writes `Answered` as JSON."""
    given: dict[str, Any] = json.load(sys.stdin)
    mix = [(method, path, None if body is None else body.encode()) for method, path, body in given.pop("mix")]
    json.dump(vars(ask(mix=mix, **given)), sys.stdout)


if __name__ == "__main__":
    main()
