"""What runs a batch's tasks: several processes here, or a cluster."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from gridpose.pipeline.batch.work import Outcome, Task
from gridpose.pipeline.result import Progress


@dataclass(frozen=True)
class Event:
    """News of a task: it was sent to a ``worker``, has got so far, or has an ``outcome``."""

    what: Literal["sent", "progress", "finished"]
    task: Task
    worker: str
    progress: Progress | None = None
    outcome: Outcome | None = None


class Engine(Protocol):
    """Runs tasks, each once, and tells how they go."""

    def run(self, tasks: Sequence[Task]) -> Iterator[Event]:
        """Start with the first ones; ends when all have finished.

        Closing the iterator ends all work at once.

        Raises:
            GridposeError: nothing can be run, say because the models cannot be loaded.
        """
        ...
