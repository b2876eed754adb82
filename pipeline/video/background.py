"""Running one stage of the pipeline in a thread of its own."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

from gridpose.pipeline.video.priority import give_way

T = TypeVar("T")
_POLL_SECONDS = 0.1
_PATIENCE_SECONDS = 0.5


class Background(Generic[T]):
    """Iterates over ``make()`` in a thread, at most ``ahead`` items in advance.

    A context manager: leaving it stops the thread, wherever the iteration is. An exception in the
    thread is raised where the items are consumed. With ``gives_way`` the thread has a lower
    priority. Who consumes calls ``while_waiting`` ten times a second when there is no item.
    """

    def __init__(
        self,
        make: Callable[[], Iterator[T]],
        ahead: int,
        name: str,
        *,
        gives_way: bool = False,
        while_waiting: Callable[[], None] | None = None,
    ) -> None:
        self._make = make
        self._while_waiting = while_waiting
        self._items: queue.Queue[tuple[T] | BaseException | None] = queue.Queue(ahead)
        self._stopped = threading.Event()
        self._gives_way = gives_way
        self._thread = threading.Thread(target=self._run, daemon=True, name=name)

    def allow(self, ahead: int) -> None:
        """Let the thread be so many items in advance, if it may not be further already."""
        with self._items.mutex:
            self._items.maxsize = max(self._items.maxsize, ahead)
            self._items.not_full.notify()

    def _put(self, item: tuple[T] | BaseException | None) -> bool:
        while not self._stopped.is_set():
            try:
                self._items.put(item, timeout=_POLL_SECONDS)
                return True
            except queue.Full:
                continue
        return False

    def _run(self) -> None:
        iterator: Iterator[T] | None = None
        if self._gives_way:
            give_way()
        try:
            iterator = self._make()
            for item in iterator:
                if not self._put((item,)):
                    return
            self._put(None)
        except BaseException as error:  # noqa: BLE001 - handed to the consumer, whatever it is
            self._put(error)
        finally:
            close = getattr(iterator, "close", None)
            if close is not None:
                close()

    def __iter__(self) -> Iterator[T]:
        while not self._stopped.is_set():
            try:
                item = self._items.get(timeout=_POLL_SECONDS)
            except queue.Empty:
                if self._while_waiting is not None:
                    self._while_waiting()
                continue
            if item is None:
                return
            if isinstance(item, BaseException):
                raise item
            yield item[0]

    def __enter__(self) -> Background[T]:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._stopped.set()
        # Native code in the thread cannot be interrupted, and Ctrl-C must not wait for it.
        self._thread.join(timeout=None if kind is None else _PATIENCE_SECONDS)
