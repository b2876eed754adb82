import pytest

from gridpose.pipeline.cli.errors import as_options


@pytest.mark.parametrize(
    ("message", "shown"),
    [
        (
            "a.mp4: exists already; `overwrite=True` replaces it",
            "a.mp4: exists already; --overwrite replaces it",
        ),
        ("`batch_size` 0: must be at least 1", "--batch-size 0: must be at least 1"),
        ("no sound (`audio=False` leaves it out)", "no sound (--no-audio leaves it out)"),
        ("`precision=fp16` needs a GPU", "--precision fp16 needs a GPU"),
        ("`weights`: no such file", "--detector-weights: no such file"),
        ("a`b`.mp4: no such file", "a`b`.mp4: no such file"),
        ("nothing to translate", "nothing to translate"),
    ],
)
def test_the_command_line_names_options(message, shown):
    assert as_options(message) == shown
