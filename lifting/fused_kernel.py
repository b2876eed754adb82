"""The GPU's part of :mod:`gridpose.lifting.fused`; importing this needs Triton."""

# Triton reads this source: no annotations but its own.
# mypy: ignore-errors

import triton
import triton.language as tl


@triton.jit
def gather_and_scale(
    x,
    attention,
    gather,
    scale,
    out,
    entries,
    pose_stride,
    channels,
    maps,
    ROWS: tl.constexpr,  # noqa: N803
    WIDTH: tl.constexpr,  # noqa: N803
):
    """One program makes ``ROWS`` rows of one pose."""
    pose = tl.program_id(0).to(tl.int64)
    row = tl.program_id(1) * ROWS + tl.arange(0, ROWS)
    there = row < entries
    source = tl.load(gather + row, mask=there, other=0)
    place = tl.load(scale + row, mask=there, other=0)
    factor = tl.load(attention + pose * maps + place, mask=there, other=0.0)
    column = tl.arange(0, WIDTH)
    used = there[:, None] & (column < channels)[None, :]
    values = tl.load(
        x + pose * pose_stride + source[:, None] * channels + column[None, :], mask=used, other=0.0
    )
    target = out + (pose * entries + row)[:, None] * channels + column[None, :]
    scaled = values.to(tl.float32) * factor.to(tl.float32)[:, None]
    tl.store(target, scaled.to(out.dtype.element_ty), mask=used)
