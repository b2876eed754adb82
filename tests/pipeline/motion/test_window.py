import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from gridpose.pipeline.motion.window import Window, stacked


def fed(frames, **options):
    """The ranges that a window hands on, and the window."""
    window, handed_on = Window(**options), []
    for frame in frames:
        window.add(frame)
        handed_on += window.due()
    return handed_on, window


@settings(max_examples=60)
@given(
    st.integers(0, 60), st.integers(0, 20), st.integers(0, 20), st.integers(1, 9), st.integers(0, 9)
)
def test_every_frame_is_handed_on_once_and_in_order(frames, ahead, back, chunk, longest):
    handed_on, window = fed(
        [{}] * frames, look_ahead=ahead, look_back=back, chunk=chunk, longest=longest
    )
    assert window.known == frames
    assert window.done <= max(0, frames - ahead)
    assert frames - ahead - window.done < chunk
    handed_on += window.due(at_end=True)
    assert [frame for due in handed_on for frame in due] == list(range(frames))
    assert all(len(due) <= max(chunk, longest) for due in handed_on)
    assert window.known - window.first == min(frames, back)


def test_people_are_there_for_as_long_as_a_frame_shows_them():
    _, window = fed([{2: "a"}, {}, {1: "b", 2: "c"}, {1: "d"}], look_ahead=1, look_back=1)
    assert (window.first, window.done, window.known) == (2, 3, 4)
    assert window.people() == {1: ["b", "d"], 2: ["c", None]}
    assert window[3] == {1: "d"}


def test_who_is_missing_is_nan():
    array = np.ones((17, 2), np.float32)
    result = stacked([None, array])
    assert np.isnan(result[0]).all()
    np.testing.assert_array_equal(result[1], array)
