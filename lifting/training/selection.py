"""What the best epoch is chosen on."""

from __future__ import annotations

from gridpose.core import InputError, UsageError
from gridpose.lifting.data.dataset import (
    PoseDataset,
    Sequence,
    default_exclude_drift,
    load_dataset,
)
from gridpose.lifting.training.options import TrainOptions


def load_split(options: TrainOptions) -> tuple[PoseDataset, PoseDataset]:
    """The data set to train on, and what is held back to choose the best epoch on."""
    assert options.data is not None
    data = load_dataset(options.data, "train", exclude_drift=False)
    if options.select_on == "val":
        return split_performances(data, options.val_share)
    drift = default_exclude_drift("test", options.data.name)
    return data, load_dataset(options.data, "test", exclude_drift=drift)


def split_performances(dataset: PoseDataset, share: float) -> tuple[PoseDataset, PoseDataset]:
    """Hold performances out: ``(the rest, about a share of them)``.

    A performance is held out with all its cameras, and they are spread evenly over the sorted list,
    so over subjects and actions.

    Raises:
        UsageError: the share is not between 0 and 1.
        InputError: there are fewer than two performances.
    """
    if not 0 < share < 1:
        raise UsageError(f"the share held out must lie between 0 and 1, not at {share}")

    def performance(sequence: Sequence) -> tuple[str, str]:
        return sequence.subject, sequence.performance

    every = sorted({performance(sequence) for sequence in dataset.sequences})
    if len(every) < 2:
        raise InputError(
            "the training data hold a single performance, so none can be held out to choose the "
            "best epoch; pass `select_on=test`"
        )
    count = min(len(every) - 1, max(1, round(share * len(every))))
    held = {every[int((number + 0.5) * len(every) / count)] for number in range(count)}
    return (
        dataset.filter(lambda sequence: performance(sequence) not in held),
        dataset.filter(lambda sequence: performance(sequence) in held),
    )
