"""The page of a live session: the picture as MJPEG, poses as Server-Sent Events, keys back.

Only this machine is answered, and only under its own name: other sites that are open in the same
browser see neither the picture nor can they press keys.
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Final, Literal

import cv2

from gridpose.core import ImageArray, Person, UsageError
from gridpose.pipeline.live.controls import KEYS, Controls, State
from gridpose.pipeline.live.messages import as_json
from gridpose.pipeline.live.options import LOOPBACK
from gridpose.visualize.palette import FAMILIES
from gridpose.visualize.stage import SPACING_METRES
from gridpose.visualize.viewer.page import ASSETS, anatomy, joint_colours, modules

_OWN: Final = Path(__file__).with_name("assets")
_QUALITY: Final = 80
_BOUNDARY: Final = "gridpose-picture"
_LONGEST_WAIT: Final = 1.0
_FAREWELL_SECONDS: Final = 0.5
_SEND_SECONDS: Final = 10.0
"""Who takes nothing for so long is let go."""
_TYPES: Final = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".json": "application/json",
}


@dataclass(frozen=True)
class _News:
    number: int
    image: ImageArray | None
    text: str


class _Board:
    """The newest picture and words; any number of threads wait for what is newer."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._news = _News(0, None, "")
        self._encoding = threading.Lock()
        self._jpeg: tuple[int, bytes] = (0, b"")
        self.closed = False
        self.watchers = 0
        """How many wait for pictures."""

    def post(self, image: ImageArray | None, text: str) -> None:
        with self._changed:
            self._news = _News(self._news.number + 1, image, text)
            self._changed.notify_all()

    def newer_than(self, number: int, seconds: float) -> _News | None:
        """What there is that is newer, or comes within some seconds."""
        with self._changed:
            self._changed.wait_for(lambda: self.closed or self._news.number > number, seconds)
            return self._news if self._news.number > number else None

    def jpeg(self, news: _News) -> bytes:
        """Encoded once for all who watch."""
        with self._encoding:
            if self._jpeg[0] != news.number and news.image is not None:
                image = cv2.cvtColor(news.image, cv2.COLOR_RGB2BGR)
                quality = [cv2.IMWRITE_JPEG_QUALITY, _QUALITY]
                self._jpeg = (news.number, cv2.imencode(".jpg", image, quality)[1].tobytes())
            return self._jpeg[1]

    def watch(self, change: int) -> None:
        with self._changed:
            self.watchers += change
            self._changed.notify_all()

    def close(self) -> None:
        """Wait a moment until all who watch have been told."""
        with self._changed:
            self.closed = True
            self._changed.notify_all()
            self._changed.wait_for(lambda: not self.watchers, _FAREWELL_SECONDS)


class Page:
    """Serves the page from threads of its own.

    Args:
        port: 0 takes any that is free.
        controls: are told of keys.

    Raises:
        UsageError: the port is taken.
        MissingError: three.js is not there.
    """

    layout: Literal["overlay"] = "overlay"
    """The skeletons beside it are the browser's."""

    def __init__(self, port: int, controls: Controls) -> None:
        self._board = _Board()
        try:
            self._server = _Server((LOOPBACK, port), _Handler)
        except OSError as error:
            raise UsageError(
                f"`port={port}`: cannot be had ({error.strerror}); `port=0` takes one that is free"
            ) from error
        self._server.board, self._server.controls = self._board, controls
        self._server.files = _files()
        self.address = f"http://{LOOPBACK}:{self._server.server_port}/"
        self._last = State()
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.1}, daemon=True
        )
        self._thread.start()

    @property
    def is_watched(self) -> bool:
        """Whether somebody has it open."""
        return self._board.watchers > 0

    def show(self, image: ImageArray, people: Sequence[Person], time: float, state: State) -> None:
        """A picture (H, W, 3) RGB, and the poses of those in it."""
        self._last = state
        self._board.post(image, as_json(time, people, state=asdict(state)))

    def attend(self, state: State) -> None:
        """Tell what has changed although no picture came."""
        before, self._last = self._last, state
        if (state.paused, state.trouble) != (before.paused, before.trouble):
            self._board.post(None, json.dumps({"state": asdict(state)}))

    def close(self) -> None:
        """Let everybody go."""
        self._board.close()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    board: _Board
    controls: Controls
    files: dict[str, tuple[str, bytes]]


def _files() -> dict[str, tuple[str, bytes]]:
    """Type and content by path."""
    setup = {
        **anatomy(),
        "families": [joint_colours(number + 1) for number in range(len(FAMILIES))],
        "spacing": SPACING_METRES,
    }
    files = {
        "/": (_TYPES[".html"], (_OWN / "live.html").read_bytes()),
        "/setup": (_TYPES[".json"], json.dumps(setup).encode()),
        "/viewer.css": (_TYPES[".css"], (ASSETS / "viewer.css").read_bytes()),
    }
    for name in ("live.css", "live.js"):
        files[f"/{name}"] = (_TYPES[Path(name).suffix], (_OWN / name).read_bytes())
    for name, code in modules().items():
        files[f"/modules/{name}"] = (_TYPES[".js"], code)
    return files


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = _SEND_SECONDS
    server: _Server

    def log_message(self, *_: Any) -> None:
        """Nothing: stderr is for what the user should know."""

    def do_GET(self) -> None:
        """The page, its parts, or what never ends."""
        if not self._is_for_us():
            return
        path = self.path.partition("?")[0]
        if path == "/picture":
            self._begin(f"multipart/x-mixed-replace; boundary={_BOUNDARY}")
            self._serve(self._pictures)
        elif path == "/poses":
            self._begin("text/event-stream")
            self._serve(self._events)
        elif path in self.server.files:
            kind, content = self.server.files[path]
            self._answer(200, content, kind)
        else:
            self._answer(404)

    def do_POST(self) -> None:
        """``/keys/pause`` and the like."""
        if not self._is_for_us():
            return
        name = self.path.removeprefix("/keys/")
        origin = self.headers.get("Origin")
        if origin is not None and origin != f"http://{self.headers['Host']}":
            self._answer(403)
        elif name not in KEYS:
            self._answer(404)
        else:
            self.server.controls.press(KEYS[name][0])
            self._answer(204)

    def _is_for_us(self) -> bool:
        """Whether it is asked for under a name of this machine; says no otherwise."""
        host = self.headers.get("Host", "")
        if re.fullmatch(rf"(127\.0\.0\.1|localhost)(:{self.server.server_port})?", host):
            return True
        self._answer(403)
        return False

    def _answer(self, status: int, content: bytes = b"", kind: str = "text/plain") -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self._common_headers()
        self.wfile.write(content)

    def _begin(self, kind: str) -> None:
        """Headers of what never ends."""
        self.close_connection = True
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Connection", "close")
        self._common_headers()

    def _common_headers(self) -> None:
        self.send_header("Cache-Control", "no-store")
        self.send_header("X-Content-Type-Options", "nosniff")
        self.end_headers()

    def _serve(self, parts: Any) -> None:
        """Send until they go away or the session ends."""
        self.server.board.watch(+1)
        try:
            parts()
        except OSError:
            return
        finally:
            self.server.board.watch(-1)

    def _pictures(self) -> None:
        board, number = self.server.board, 0
        self.wfile.write(f"--{_BOUNDARY}\r\n".encode())
        while not board.closed:
            news = board.newer_than(number, _LONGEST_WAIT)
            if news is None or news.image is None:
                number = number if news is None else news.number
                continue
            number, jpeg = news.number, board.jpeg(news)
            head = f"Content-Type: image/jpeg\r\nContent-Length: {len(jpeg)}\r\n\r\n".encode()
            # The boundary that ends it goes along: browsers wait for it.
            self.wfile.write(head + jpeg + f"\r\n--{_BOUNDARY}\r\n".encode())

    def _events(self) -> None:
        board, number = self.server.board, 0
        while not board.closed:
            news = board.newer_than(number, _LONGEST_WAIT)
            number = number if news is None else news.number
            # Words without meaning find out whether anybody is there.
            self.wfile.write(b": \n\n" if news is None else f"data: {news.text}\n\n".encode())
        self.wfile.write(b"event: end\ndata: {}\n\n")
