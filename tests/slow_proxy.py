"""A TCP proxy in front of PostgreSQL that can be slow, stand still, or cut what goes through it."""

import contextlib
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import sqlalchemy as sa


class SlowProxy:
    """Listens on a port of this machine and passes on what comes, after `delay_s`, and not while it stands still.

    Args:
        url: of the database; its host may be the folder of a socket.
    """

    def __init__(self, url: str) -> None:
        self.delay_s = 0.0
        self._target = sa.make_url(url)
        self._flows = threading.Event()
        self._flows.set()
        self._open: list[socket.socket] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = self.url_of(url)
        threading.Thread(target=self._accept, daemon=True).start()

    def url_of(self, url: str) -> str:
        """The URL of another database of the same server, through this proxy."""
        port = self._listener.getsockname()[1]
        through = sa.make_url(url).set(host="127.0.0.1", port=port, query={})
        return through.render_as_string(hide_password=False)

    def stand_still(self) -> None:
        self._flows.clear()

    def flow(self) -> None:
        self._flows.set()

    def cut(self) -> None:
        """Ends all connections; new ones are taken."""
        while self._open:
            with contextlib.suppress(OSError):
                self._open.pop().shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self._listener.close()
        self.flow()
        self.cut()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        self._flows.wait()
        server = self._connect()
        self._open += [client, server]
        for source, sink in ((client, server), (server, client)):
            threading.Thread(target=self._pass_on, args=(source, sink), daemon=True).start()

    def _connect(self) -> socket.socket:
        host, port = self._target.query.get("host") or self._target.host, self._target.port or 5432
        if str(host).startswith("/"):
            server = socket.socket(socket.AF_UNIX)
            server.connect(str(Path(str(host)) / f".s.PGSQL.{port}"))
            return server
        return socket.create_connection((str(host), port))

    def _pass_on(self, source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while part := source.recv(1 << 16):
                time.sleep(self.delay_s)
                self._flows.wait()
                sink.sendall(part)
        for one in (source, sink):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)


@contextlib.contextmanager
def slow_proxy(url: str) -> Iterator[SlowProxy]:
    proxy = SlowProxy(url)
    try:
        yield proxy
    finally:
        proxy.close()
