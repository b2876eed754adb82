import os
import subprocess
import sys
import threading

import pytest

from gridpose.pipeline.video.background import Background
from gridpose.pipeline.video.priority import spawn

pytestmark = pytest.mark.skipif(
    sys.platform != "linux", reason="threads have priorities of their own on Linux only"
)


def niceness(thread=0):
    return os.getpriority(os.PRIO_PROCESS, thread)


def test_a_child_gives_way_and_the_parent_keeps_its_priority():
    ours = niceness()
    with spawn(["sleep", "5"], stdout=subprocess.DEVNULL) as child:
        theirs = niceness(child.pid)
        child.kill()
    assert theirs > ours or ours == 19
    assert niceness() == ours


def test_a_child_is_not_in_our_process_group():
    with spawn(["sleep", "5"], stdout=subprocess.DEVNULL) as child:
        group = os.getpgid(child.pid)
        child.kill()
    assert group != os.getpgid(0)


@pytest.mark.parametrize("gives_way", [False, True])
def test_a_stage_gives_way_only_when_asked(gives_way):
    def stage():
        yield niceness(threading.get_native_id())

    with Background(stage, 1, "stage", gives_way=gives_way) as background:
        (theirs,) = background
    ours = niceness()
    assert (theirs > ours) == gives_way or ours == 19
