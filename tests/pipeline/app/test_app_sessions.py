"""Turns and files of those who have the page open."""

import threading

import pytest

from gridpose.core import UsageError
from gridpose.pipeline.app.sessions import LONGEST_QUEUE, CancelledError, Sessions

SECONDS = 20


@pytest.fixture
def sessions(tmp_path):
    (tmp_path / "jobs").mkdir()
    return Sessions(tmp_path / "jobs")


def nothing(before):
    pass


class Working(threading.Thread):
    """A job that goes on until it may end, or is cancelled."""

    def __init__(self, sessions, session):
        super().__init__(daemon=True)
        self.sessions, self.session = sessions, session
        self.has_turn, self.may_end, self.waits = (threading.Event() for _ in range(3))
        self.waited, self.error = [], None
        self.start()

    def run(self):
        try:
            with self.sessions.job(self.session, self.wait) as job:
                (job.folder / "result").touch()
                self.has_turn.set()
                while not self.may_end.wait(0.01):
                    job.check()
        except (CancelledError, UsageError) as error:
            self.error = error

    def wait(self, before):
        self.waited.append(before)
        self.waits.set()

    def ended(self):
        self.join(SECONDS)
        assert not self.is_alive()
        return self.error


def results(sessions, tmp_path):
    return len(list((tmp_path / "jobs").glob("*/result")))


def test_jobs_run_one_at_a_time_in_their_order(sessions, tmp_path):
    jobs = []
    for name in "abc":
        jobs.append(Working(sessions, name))
        assert (jobs[-1].has_turn if name == "a" else jobs[-1].waits).wait(SECONDS)
    assert [job.has_turn.is_set() for job in jobs] == [True, False, False]
    assert (jobs[1].waited[-1], jobs[2].waited[-1]) == (1, 2)
    for job in jobs:
        assert job.has_turn.wait(SECONDS)
        job.may_end.set()
        assert job.ended() is None
    assert results(sessions, tmp_path) == 3


def test_running_and_waiting_jobs_can_be_cancelled(sessions, tmp_path):
    running, waiting = Working(sessions, "a"), None
    assert running.has_turn.wait(SECONDS)
    waiting = Working(sessions, "b")
    assert waiting.waits.wait(SECONDS)
    for session, job in (("b", waiting), ("a", running)):
        assert sessions.cancel(session)
        assert isinstance(job.ended(), CancelledError)
        assert not sessions.cancel(session)
    assert not waiting.has_turn.is_set()
    assert list((tmp_path / "jobs").iterdir()) == []
    with sessions.job("a", nothing):
        pass


def test_a_session_has_one_job_and_the_results_of_its_last(sessions, tmp_path):
    first = Working(sessions, "a")
    assert first.has_turn.wait(SECONDS)
    with pytest.raises(UsageError, match="not over"), sessions.job("a", nothing):
        pass
    sessions.cancel("a")
    second = Working(sessions, "a")  # at once, while the first may still be at work
    assert second.has_turn.wait(SECONDS)
    assert isinstance(first.ended(), CancelledError)
    second.may_end.set()
    assert second.ended() is None
    assert results(sessions, tmp_path) == 1
    with sessions.job("a", nothing):
        assert results(sessions, tmp_path) == 0


def test_a_failed_job_leaves_nothing(sessions, tmp_path):
    with pytest.raises(ZeroDivisionError), sessions.job("a", nothing):
        _ = 1 / 0
    assert list((tmp_path / "jobs").iterdir()) == []


def test_files_go_with_their_session(sessions, tmp_path):
    with sessions.job("a", nothing) as job:
        (job.folder / "result").touch()
    working = Working(sessions, "b")
    assert working.has_turn.wait(SECONDS)
    sessions.end("a")
    sessions.end("b")
    sessions.end("never seen")
    assert isinstance(working.ended(), CancelledError)
    assert list((tmp_path / "jobs").iterdir()) == []


def test_an_upload_goes_with_the_last_who_has_it(sessions, tmp_path):
    (tmp_path / "hash").mkdir()
    upload = tmp_path / "hash" / "dance.mp4"
    upload.touch()
    for session in "ab":
        sessions.hold(session, [upload])
    sessions.hold("a", [])
    assert upload.exists()
    sessions.hold("b", [upload])
    assert upload.exists()
    sessions.end("b")
    assert not upload.parent.exists()


def test_the_queue_has_an_end(sessions):
    jobs = [Working(sessions, str(number)) for number in range(LONGEST_QUEUE + 1)]
    for job in jobs:
        while not (job.waits.wait(0.01) or job.has_turn.is_set()):
            assert job.is_alive()
    with pytest.raises(UsageError, match="jobs are waiting"), sessions.job("late", nothing):
        pass
    sessions.close(SECONDS)
    assert all(isinstance(job.ended(), CancelledError) for job in jobs)
