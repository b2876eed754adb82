import pytest

from gridpose.core import (
    BONES,
    JOINT_NAMES,
    MIRRORED,
    NUM_JOINTS,
    PARENTS,
    GridposeError,
    InputError,
    MissingError,
    UsageError,
)

# Human3.6M-17 as Human3.6M numbers it.
ORDER = [
    "hip",
    *("right_hip", "right_knee", "right_ankle"),
    *("left_hip", "left_knee", "left_ankle"),
    *("spine", "thorax", "nose", "head"),
    *("left_shoulder", "left_elbow", "left_wrist"),
    *("right_shoulder", "right_elbow", "right_wrist"),
]


def other_side(name: str) -> str:
    if name.startswith("left_"):
        return name.replace("left_", "right_")
    return name.replace("right_", "left_")


def test_joints_are_in_human36m_order() -> None:
    assert list(JOINT_NAMES) == ORDER
    assert len(JOINT_NAMES) == NUM_JOINTS == 17


def test_mirrored_swaps_the_sides_by_name() -> None:
    assert [JOINT_NAMES[i] for i in MIRRORED] == [other_side(name) for name in JOINT_NAMES]


def test_every_joint_but_the_hip_hangs_on_an_earlier_one() -> None:
    assert PARENTS[0] == -1
    assert all(0 <= parent < child for child, parent in enumerate(PARENTS) if child)


def test_the_tree_of_bones_is_that_of_a_body() -> None:
    bones = {(JOINT_NAMES[parent], JOINT_NAMES[child]) for parent, child in BONES}
    trunk = {("hip", "spine"), ("spine", "thorax"), ("thorax", "nose"), ("nose", "head")}
    limbs = {
        (f"{side}_{upper}", f"{side}_{lower}")
        for side in ("left", "right")
        for upper, lower in (
            ("hip", "knee"),
            ("knee", "ankle"),
            ("shoulder", "elbow"),
            ("elbow", "wrist"),
        )
    }
    roots = {("hip", f"{side}_hip") for side in ("left", "right")}
    roots |= {("thorax", f"{side}_shoulder") for side in ("left", "right")}
    assert bones == trunk | limbs | roots


@pytest.mark.parametrize(
    ("kind", "code"),
    [(GridposeError, 1), (UsageError, 2), (InputError, 3), (MissingError, 4)],
)
def test_every_error_is_a_gridpose_error_with_its_exit_code(
    kind: type[GridposeError], code: int
) -> None:
    assert issubclass(kind, GridposeError)
    assert kind.exit_code == code
