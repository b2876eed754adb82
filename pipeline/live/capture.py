"""A thread that keeps the newest picture of a feed, and gets the feed back when it is lost."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from gridpose.core import GridposeError, ImageArray
from gridpose.pipeline.live.feed import Feed

FIRST_DELAY, LONGEST_DELAY = 0.5, 8.0


def delays(first: float = FIRST_DELAY) -> Iterator[float]:
    """Seconds between tries: twice as long each time, up to :data:`LONGEST_DELAY`."""
    while True:
        yield first
        first = min(2 * first, LONGEST_DELAY)


@dataclass(frozen=True)
class Shot:
    """A picture (H, W, 3) RGB, and the second of ``time.monotonic`` in which it came."""

    image: ImageArray
    time: float


class Capture:
    """Hands out the newest picture only; a context manager.

    Args:
        name: of the source, for the user.
        open_feed: opens it; called again whenever it was lost, after 0.5, 1, 2, ... 8 s.
        say: is told what happens, a sentence each time; from another thread.
        first_delay: seconds before the first try to get it back.

    Raises:
        GridposeError: as ``open_feed`` does, when it is opened for the first time.
    """

    def __init__(
        self,
        name: str,
        open_feed: Callable[[], Feed],
        say: Callable[[str], None],
        first_delay: float = FIRST_DELAY,
    ) -> None:
        self._name, self._open_feed, self._say = name, open_feed, say
        self._first_delay = first_delay
        self._feed: Feed | None = open_feed()
        self.fps, self.ends = self._feed.fps, self._feed.ends
        self.trouble = ""
        """What is wrong, a sentence; "" while pictures come."""
        self.dropped = 0
        """Pictures that a newer one took the place of."""
        self.ended = False
        """Whether nothing more will come."""
        self.last_came = time.monotonic()
        self._error: Exception | None = None
        self._shot: Shot | None = None
        self._news = threading.Condition()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True, name="capture")

    def start(self) -> None:
        """Begin to take pictures, if that has not begun."""
        if not self._thread.is_alive() and not self.ended:
            self.last_came = time.monotonic()
            self._thread.start()

    def newest(self, timeout: float) -> Shot | None:
        """The newest picture that nobody has taken yet; None if none comes in time.

        Raises:
            GridposeError: the feed ended with an error.
        """
        with self._news:
            self._news.wait_for(lambda: self._shot is not None or self.ended, timeout)
            shot, self._shot = self._shot, None
        if shot is None and self._error is not None:
            raise self._error
        return shot

    def _run(self) -> None:
        try:
            while not self._stop.is_set():
                if self._feed is None:
                    self._open_again()
                elif not self._pass_on(self._feed):
                    self._feed.close()
                    if self._feed.ends:
                        break
                    self._feed = None
        except Exception as error:  # noqa: BLE001 - whoever asks for pictures gets it
            self._error = error
        finally:
            if self._feed is not None:
                self._feed.close()
            with self._news:
                self.ended = True
                self._news.notify_all()

    def _pass_on(self, feed: Feed) -> bool:
        """Put the next picture in the place of the last; False when there is none."""
        image = feed.read()
        if image is None:
            return False
        with self._news:
            self.dropped += self._shot is not None
            self.last_came = time.monotonic()
            self._shot = Shot(image, self.last_came)
            self._news.notify_all()
        return True

    def _open_again(self) -> None:
        """Try until pictures come, ever more seldom."""
        if self._stop.is_set():
            return
        self.trouble = f"{self._name}: gives no pictures any more; trying to get it back"
        self._say(self.trouble)
        for delay in delays(self._first_delay):
            if self._stop.wait(delay):
                return
            try:
                feed = self._open_feed()
            except GridposeError:
                continue
            if self._pass_on(feed):
                self.trouble = ""
                self._say(f"{self._name}: is back")
                self._feed = feed
                return
            feed.close()

    def __enter__(self) -> Capture:
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        if self._thread.is_alive():
            # It may wait for a camera that is dead; then it ends with the program.
            self._thread.join(1.0)
        elif self._feed is not None:
            self._feed.close()
