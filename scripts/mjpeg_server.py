"""A network camera on loopback: pictures at a steady rate, as MJPEG over HTTP."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

_BOUNDARY = b"--frame\r\n"


class MjpegServer(ThreadingHTTPServer):
    """Plays the same pictures over and over.

    Attributes:
        sent: when, by ``time.monotonic``, each of the pictures was last sent.
        clients: how many connections there were.
        limit: pictures after which a connection is cut, None for never.
    """

    daemon_threads = True

    def __init__(self, jpegs: Sequence[bytes], fps: float) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.jpegs, self.fps = jpegs, fps
        self.sent = [0.0] * len(jpegs)
        self.clients = 0
        self.limit: int | None = None
        self.stopped = threading.Event()

    @property
    def address(self) -> str:
        """Of the stream."""
        return f"http://127.0.0.1:{self.server_port}/camera.mjpg"

    def handle_error(self, *_: Any) -> None:
        """Whoever watches may leave."""


class _Handler(BaseHTTPRequestHandler):
    server: MjpegServer

    def log_message(self, *_: Any) -> None:
        """Nothing."""

    def do_GET(self) -> None:
        server = self.server
        server.clients += 1
        self.send_response(200)
        self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
        self.end_headers()
        self.wfile.write(_BOUNDARY)
        begun, number = time.monotonic(), 0
        while number != server.limit:
            if server.stopped.wait(max(0.0, begun + number / server.fps - time.monotonic())):
                return
            index = number % len(server.jpegs)
            jpeg = server.jpegs[index]
            head = b"Content-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n" % len(jpeg)
            server.sent[index] = time.monotonic()
            self.wfile.write(head + jpeg + b"\r\n" + _BOUNDARY)
            number += 1


@contextmanager
def camera(jpegs: Sequence[bytes], fps: float) -> Iterator[MjpegServer]:
    """A server that runs until the end of the block."""
    server = MjpegServer(jpegs, fps)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield server
    finally:
        server.stopped.set()
        server.shutdown()
        server.server_close()
        thread.join()


def parts(stream: Any) -> Iterator[bytes]:
    """The JPEG pictures of an MJPEG answer, each as soon as it is complete."""
    while True:
        length = 0
        while line := stream.readline():
            if line.lower().startswith(b"content-length:"):
                length = int(line.split(b":")[1])
            if line == b"\r\n" and length:
                break
        else:
            return
        yield stream.read(length)
