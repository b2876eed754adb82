import threading
import time

import pytest

from gridpose.pipeline.video.background import Background


def running(name):
    return any(thread.name == name for thread in threading.enumerate())


def wait_until(condition, seconds=5.0):
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.01)
    return condition()


def test_all_items_in_order():
    with Background(lambda: iter(range(1000)), 3, "order") as items:
        assert list(items) == list(range(1000))
    assert not running("order")


def test_none_is_an_item_like_others():
    with Background(lambda: iter([None, 1, None]), 2, "none") as items:
        assert list(items) == [None, 1, None]


def test_nothing():
    with Background(lambda: iter(()), 2, "nothing") as items:
        assert list(items) == []


def test_work_is_done_in_another_thread():
    def make():
        yield threading.current_thread()

    with Background(make, 1, "other") as items:
        (thread,) = items
    assert thread is not threading.current_thread()


@pytest.mark.parametrize("error", [ValueError("third"), KeyboardInterrupt(), SystemExit(3)])
def test_an_exception_comes_after_the_items_before_it(error):
    def make():
        yield 1
        yield 2
        raise error

    seen = []

    def consume():
        with Background(make, 5, "raises") as items:
            for item in items:
                seen.append(item)

    with pytest.raises(type(error)) as caught:
        consume()
    assert caught.value is error
    assert seen == [1, 2]
    assert wait_until(lambda: not running("raises"))


def test_an_exception_before_the_first_item():
    def make():
        raise OSError("no model")

    with (
        pytest.raises(OSError, match="no model"),
        Background(make, 5, "early") as items,
    ):
        list(items)


@pytest.mark.parametrize("consumed", [0, 1, 7])
def test_leaving_early_ends_the_thread_and_closes_the_generator(consumed):
    closed = threading.Event()

    def make():
        try:
            number = 0
            while True:
                yield number
                number += 1
        finally:
            closed.set()

    with Background(make, 2, "endless") as items:
        for _, item in zip(range(consumed), items, strict=False):
            assert item < consumed
    assert closed.is_set()
    assert not running("endless")


def test_an_exception_of_the_consumer_ends_the_thread():
    closed = threading.Event()

    def make():
        try:
            while True:
                yield 0
        finally:
            closed.set()

    def consume():
        with Background(make, 2, "abandoned") as items:
            for _ in items:
                raise ValueError("the consumer's own")

    with pytest.raises(ValueError, match="the consumer's own"):
        consume()
    assert closed.wait(5)
    assert wait_until(lambda: not running("abandoned"))


@pytest.mark.parametrize("ahead", [1, 4])
def test_work_runs_ahead_but_not_far(ahead):
    made = []

    def make():
        for number in range(100):
            made.append(number)
            yield number

    with Background(make, ahead, "ahead") as items:
        # One more than the queue holds waits in the thread's hand.
        assert wait_until(lambda: len(made) == ahead + 1)
        time.sleep(0.3)
        assert len(made) == ahead + 1
        next(iter(items))
        assert wait_until(lambda: len(made) == ahead + 2)
        time.sleep(0.2)
        assert len(made) == ahead + 2


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_an_interrupt_does_not_wait_for_work_that_cannot_be_interrupted(error):
    go_on, started = threading.Event(), threading.Event()

    def make():
        started.set()
        go_on.wait(30)  # as native code or an import would
        yield 0

    def consume():
        with Background(make, 2, "busy"):
            started.wait(5)
            raise error

    begin = time.monotonic()
    with pytest.raises(error):
        consume()
    assert time.monotonic() - begin < 2
    go_on.set()
    assert wait_until(lambda: not running("busy"))


def test_leaving_normally_waits_for_the_work_at_hand():
    finished = threading.Event()

    def make():
        time.sleep(0.8)
        finished.set()
        yield 0

    with Background(make, 2, "slow"):
        pass
    assert finished.is_set()


def test_stages_can_be_chained():
    def numbers():
        yield from range(50)

    def squares():
        with Background(numbers, 2, "inner") as items:
            for item in items:
                yield item * item

    with Background(squares, 2, "outer") as items:
        assert list(items) == [n * n for n in range(50)]
    with Background(squares, 2, "outer") as items:
        assert next(iter(items)) == 0
    assert wait_until(lambda: not running("inner") and not running("outer"))
