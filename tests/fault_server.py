"""An HTTP server on loopback that misbehaves as it is told."""

import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class Served:
    """What a path answers; each request takes the next of ``faults`` until none is left."""

    content: bytes
    faults: list = field(default_factory=list)
    always: str = ""
    requests: list = field(default_factory=list)
    bytes_sent: int = 0


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def do_GET(self):
        served = self.server.files.get(self.path)
        if served is None:
            self.send_error(404)
            return
        served.requests.append(dict(self.headers))
        fault = served.always or (served.faults.pop(0) if served.faults else "")
        content = served.content
        start = 0
        wanted = self.headers.get("Range")
        if wanted and fault != "ignore range":
            start = int(wanted.removeprefix("bytes=").rstrip("-"))
        if fault.isdecimal():
            self.send_error(int(fault))
            return
        if fault == "redirect":
            self.send_response(302)
            self.send_header("Location", "/target")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        if start >= len(content) and wanted:
            self.send_error(416)
            return
        if fault == "stall first":
            time.sleep(self.server.stall)
        self._answer(served, content, start, fault)

    def _answer(self, served, content, start, fault):
        body = content[start:]
        self.send_response(206 if start else 200)
        if start:
            shown = start + 1 if fault == "wrong part" else start
            self.send_header("Content-Range", f"bytes {shown}-{len(content) - 1}/{len(content)}")
        if fault == "endless":
            self.send_header("Connection", "close")
            self.end_headers()
            for _ in range(2000):
                try:
                    self.wfile.write(b"x" * 65536)
                except OSError:
                    return
            return
        length = len(body) + {"says more": 1000, "says less": -1000}.get(fault, 0)
        self.send_header("Content-Length", str(length))
        self.end_headers()
        if fault == "half":
            body = body[: len(body) // 2]
        if fault == "wrong":
            body = bytes(len(body))
        if fault == "says less":
            body = body[:length]
        try:
            half = len(body) // 2
            self.wfile.write(body[:half])
            if fault == "stall":
                time.sleep(self.server.stall)
            if fault == "slow":
                for at in range(half, len(body), 20000):
                    self.wfile.write(body[at : at + 20000])
                    time.sleep(0.02)
            else:
                self.wfile.write(body[half:])
            served.bytes_sent += len(body)
        except OSError:
            pass
        self.close_connection = fault in ("half", "says more", "stall", "says less")


@contextmanager
def serving(stall=1.0):
    """A server with ``files``, by path, and its address."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    server.files, server.stall, server.daemon_threads = {}, stall, True
    server.address = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
