"""Faults that meet a real batch; scripts/faults.py has them all."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "scripts"))
faults = pytest.importorskip("faults")

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="finds processes in /proc")


@pytest.mark.slow
@pytest.mark.parametrize("name", faults.FAULTS)
def test_nothing_is_lost(name):
    assert faults.inject(name).wrong == []
