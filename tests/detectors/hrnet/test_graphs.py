"""When a network's calls are recorded, and what runs otherwise; with stand-ins for CUDA graphs."""

from contextlib import contextmanager, nullcontext

import pytest
import torch

from gridpose.detectors.hrnet import cuda_graphs as graphs
from gridpose.detectors.hrnet.cuda_graphs import SIZES, WARM_UP, RecordedCalls
from gridpose.detectors.hrnet.cuda_graphs import Recording as RealRecording


class Recording:
    made: list
    fails_at = None

    def __init__(self, call, size, values, pool):
        if size == self.fails_at:
            raise torch.OutOfMemoryError("no room\nat all")
        self.made.append((size, pool))
        self.pool = f"pool of {size}"

    def replay(self, values):
        return values * 2, values[:, 0]


@pytest.fixture
def recording(monkeypatch):
    monkeypatch.setattr(Recording, "made", [], raising=False)
    monkeypatch.setattr(graphs, "Recording", Recording)
    yield Recording
    Recording.fails_at = None


def counted():
    sizes = []

    def call(values):
        sizes.append(len(values))
        return values * 2, values[:, 0]

    return call, sizes


def look(calls, count):
    values = torch.rand(count, 3)
    doubled, first = calls(values)
    torch.testing.assert_close(doubled, values * 2)
    torch.testing.assert_close(first, values[:, 0])


def test_what_comes_again_is_recorded_once_for_its_size(recording):
    call, ran = counted()
    calls = RecordedCalls(call, 64)
    for count in (5, 6) * WARM_UP:
        look(calls, count)
    look(calls, 1)
    assert ran == [*(5, 6) * WARM_UP, 1][:WARM_UP] + [1]
    assert recording.made == [(6, None)]
    for _ in range(WARM_UP + 1):
        look(calls, 64)
    assert recording.made == [(6, None), (64, "pool of 6")]


def test_larger_batches_run_as_they_are(recording):
    call, ran = counted()
    calls = RecordedCalls(call, 8)
    for _ in range(WARM_UP + 2):
        look(calls, 9)
    assert ran == [9] * (WARM_UP + 2)
    assert not recording.made


def test_where_recording_fails_everything_runs_without(recording):
    call, ran = counted()
    recording.fails_at = 4
    calls = RecordedCalls(call, 8)
    for _ in range(WARM_UP + 1):
        look(calls, 2)
    ran.clear()
    for _ in range(WARM_UP):
        look(calls, 4)
    with pytest.warns(RuntimeWarning, match=r"no CUDA graph of 4 crops: no room$"):
        look(calls, 4)
    for count in (4, 3, 7):
        look(calls, count)
    assert ran == [4] * (WARM_UP + 1) + [4, 3, 7]
    look(calls, 2)  # by what was recorded before
    assert len(ran) == WARM_UP + 4
    assert recording.made == [(2, None)]


def test_padding_adds_less_than_half():
    for count in range(1, SIZES[-1] + 1):
        assert next(size for size in SIZES if size >= count) < 1.5 * count


def test_a_recording_replays_what_it_was_given(monkeypatch):
    """Each replay runs the call on what was copied to the place that was recorded."""
    ran, captured = [], []

    def call(values):
        ran.append((values.data_ptr(), bool(captured)))
        return values * 2, values[:, 0] + 1

    class Side:
        def wait_stream(self, other):
            pass

    class Graph:
        def replay(self):
            for kept, new in zip(made._answers, call(made._values), strict=True):
                kept.copy_(new)

    @contextmanager
    def capture(graph, pool, stream, capture_error_mode):
        assert (pool, capture_error_mode) == ("a pool", "thread_local")
        captured.append(graph)
        yield

    for name, stand_in in (
        ("device", lambda _: nullcontext()),
        ("Stream", Side),
        ("current_stream", Side),
        ("stream", lambda _: nullcontext()),
        ("CUDAGraph", Graph),
        ("graph", capture),
    ):
        monkeypatch.setattr(torch.cuda, name, stand_in)
    made = RealRecording(call, 4, torch.zeros(3, 2, dtype=torch.uint8), "a pool")
    assert [recorded for _, recorded in ran] == [False, False, True]
    first = torch.tensor([[1, 2], [3, 4], [5, 6]], dtype=torch.uint8)
    doubled, added = made.replay(first)
    again, _ = made.replay(first[:1] + 10)
    assert doubled.tolist() == [[2, 4], [6, 8], [10, 12]]  # not what came after
    assert added.tolist() == [2, 4, 6]
    assert again.tolist() == [[22, 24]]
    assert len({place for place, _ in ran}) == 1
