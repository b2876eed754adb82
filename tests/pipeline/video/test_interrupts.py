import signal
import threading

import pytest

from gridpose.pipeline.video.interrupts import interrupts_held


def test_an_interrupt_waits_for_the_end_of_the_block():
    steps = []
    with pytest.raises(KeyboardInterrupt):  # noqa: PT012 - the point is how far it gets
        with interrupts_held():
            signal.raise_signal(signal.SIGINT)
            steps.append("inside")
        steps.append("after")
    assert steps == ["inside"]


def test_handlers_are_given_back():
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    with interrupts_held():
        assert signal.getsignal(signal.SIGINT) != before[0]
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before


def test_an_error_in_the_block_comes_out():
    with pytest.raises(ValueError, match="broken"), interrupts_held():
        raise ValueError("broken")


def test_other_threads_are_left_alone():
    reached = []

    def work():
        with interrupts_held():
            reached.append(True)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert reached == [True]
