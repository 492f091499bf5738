"""Window attention as one Triton kernel: a program takes a tile of queries through its haloed keys, in one pass.

The haloed keys are indexed linearly, so that blocks of them fill the matrix units whatever the window; an online
softmax runs over the blocks, in powers of two. Masks and the relative position bias are computed, not read, and
gathered keys and values are read where they lie; nothing but inputs and outputs touches memory. Importing this needs
the `triton` package; TRITON_INTERPRET=1 runs it without a GPU.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor
from triton.runtime import driver
from triton.runtime.interpreter import InterpretedFunction

from sdcpc_ros.network.window_attention.portable import Inputs

#: Logits are in powers of two.
LOG2_E: tl.constexpr = tl.constexpr(1.4426950408889634)


@triton.jit
def _cos(turns):  # type: ignore[no-untyped-def]
    """The cosine of angles in turns, to 3e-7: the library's takes registers and stack for huge angles."""
    half = 3.141592653589793 * (turns - tl.floor(turns + 0.5))
    x = half * half  # of the sine's series
    sine = 1 - x / 110 * (1 - x / 156)
    sine = 1 - x / 6 * (1 - x / 20 * (1 - x / 42 * (1 - x / 72 * sine)))
    return 1 - 2 * x * sine * sine


@triton.jit
def _window_attention(  # type: ignore[no-untyped-def]
    query,
    keys,
    values,
    valid,
    position_weight,
    gather_index,
    output,
    argmax_offset,
    height,
    width,
    channels,
    value_channels,
    tiles_x,
    scale,
    query_sb,
    query_sc,
    query_sy,
    query_sx,
    key_sb,
    key_sc,
    key_sy,
    key_sx,
    value_sb,
    value_sc,
    value_sy,
    value_sx,
    RADIUS: tl.constexpr,
    TILE: tl.constexpr,
    BLOCK: tl.constexpr,
    CHANNELS: tl.constexpr,
    VALUE_CHANNELS: tl.constexpr,
    WITH_OFFSET: tl.constexpr,
    WITH_POSITION: tl.constexpr,
    WITH_INDEX: tl.constexpr,
    PRECISION: tl.constexpr,
    INTERPRETED: tl.constexpr,
):
    """One tile of TILE x TILE queries of one frame. Capitals are fixed at compilation, powers of two but RADIUS."""
    HALO: tl.constexpr = TILE + 2 * RADIUS
    FREQUENCY: tl.constexpr = 0.5 / (RADIUS + 1)  # turns a position
    batch = tl.program_id(1).to(tl.int64)
    tile_y = (tl.program_id(0) // tiles_x) * TILE
    tile_x = (tl.program_id(0) % tiles_x) * TILE

    cell = tl.arange(0, TILE * TILE)
    y = tile_y + cell // TILE
    x = tile_x + cell % TILE
    in_frame = (y < height) & (x < width)
    position = y * width + x
    channel = tl.arange(0, CHANNELS)
    value_channel = tl.arange(0, VALUE_CHANNELS)
    q = tl.load(
        query + batch * query_sb + (y * query_sy + x * query_sx)[:, None] + channel[None, :] * query_sc,
        mask=in_frame[:, None] & (channel < channels)[None, :],
        other=0.0,
    )
    if INTERPRETED:  # without a GPU there are no products of bfloat16
        q = q.to(tl.float32)

    if WITH_POSITION:
        # cos(a - b) = cos a cos b + sin a sin b: cosines of queries and of keys instead of one for each pair.
        weight = tl.load(position_weight).to(tl.float32) * LOG2_E
        turns_y, turns_x = (y - tile_y) * FREQUENCY, (x - tile_x) * FREQUENCY
        cos_y, sin_y = weight * _cos(turns_y), weight * _cos(turns_y - 0.25)
        cos_x, sin_x = weight * _cos(turns_x), weight * _cos(turns_x - 0.25)

    # Far below any logit, but finite: the difference of two of them is a number.
    highest = tl.full([TILE * TILE], -3.0e38, tl.float32)
    total = tl.zeros([TILE * TILE], tl.float32)  # of exp2(logit - highest)
    result = tl.zeros([TILE * TILE, VALUE_CHANNELS], tl.float32)
    best = tl.full([TILE * TILE], float("-inf"), tl.float32)
    strongest = tl.zeros([TILE * TILE], tl.int32)
    present = tl.load(valid + batch) != 0

    for start in range(0, tl.where(present, HALO * HALO, 0), BLOCK):
        key_cell = start + tl.arange(0, BLOCK)
        key_y = tile_y - RADIUS + key_cell // HALO
        key_x = tile_x - RADIUS + key_cell % HALO
        exists = (key_cell < HALO * HALO) & (key_y >= 0) & (key_y < height) & (key_x >= 0) & (key_x < width)
        from_y, from_x = key_y, key_x
        if WITH_INDEX:
            place = tl.load(gather_index + batch * height * width + key_y * width + key_x, mask=exists, other=0)
            from_y, from_x = place // width, place % width
        block = tl.load(
            keys + batch * key_sb + (from_y * key_sy + from_x * key_sx)[None, :] + channel[:, None] * key_sc,
            mask=exists[None, :] & (channel < channels)[:, None],
            other=0.0,
        )
        if INTERPRETED:
            block = block.to(tl.float32)
        logits = tl.dot(q, block, input_precision=PRECISION) * scale
        if WITH_POSITION:
            key_turns_y, key_turns_x = (key_y - tile_y) * FREQUENCY, (key_x - tile_x) * FREQUENCY
            logits += cos_y[:, None] * _cos(key_turns_y)[None, :] + sin_y[:, None] * _cos(key_turns_y - 0.25)[None, :]
            logits += cos_x[:, None] * _cos(key_turns_x)[None, :] + sin_x[:, None] * _cos(key_turns_x - 0.25)[None, :]
        dy = key_y[None, :] - y[:, None]
        dx = key_x[None, :] - x[:, None]
        seen = exists[None, :] & (dy >= -RADIUS) & (dy <= RADIUS) & (dx >= -RADIUS) & (dx <= RADIUS)
        logits = tl.where(seen, logits, float("-inf"))
        block_best = tl.max(logits, 1)

        if WITH_OFFSET:  # of equal logits, the first
            block_strongest = start + tl.argmax(logits, 1, tie_break_left=True).to(tl.int32)
            strongest = tl.where(block_best > best, block_strongest, strongest)
            best = tl.maximum(best, block_best)

        higher = tl.maximum(highest, block_best)
        shrink = tl.exp2(highest - higher)
        weights = tl.exp2(logits - higher[:, None])
        highest = higher
        total = total * shrink + tl.sum(weights, 1)
        block = tl.load(
            values
            + batch * value_sb
            + (from_y * value_sy + from_x * value_sx)[:, None]
            + value_channel[None, :] * value_sc,
            mask=exists[:, None] & (value_channel < value_channels)[None, :],
            other=0.0,
        )
        if INTERPRETED:
            block = block.to(tl.float32)
        result = tl.dot(weights.to(block.dtype), block, acc=result * shrink[:, None], input_precision=PRECISION)

    if WITH_OFFSET:
        at = argmax_offset + batch * 2 * height * width + position
        dy = tile_y - RADIUS + strongest // HALO - y
        dx = tile_x - RADIUS + strongest % HALO - x
        tl.store(at, tl.where(present, dy, 0).to(tl.int64), mask=in_frame)
        tl.store(at + height * width, tl.where(present, dx, 0).to(tl.int64), mask=in_frame)

    # A query in the frame sees at least its own position where the maps are valid; else everything is zero.
    inverse = tl.where(total > 0, 1.0 / tl.where(total > 0, total, 1.0), 0.0)
    tl.store(
        output + (batch * height * width + position)[:, None] * value_channels + value_channel[None, :],
        (result * inverse[:, None]).to(output.dtype.element_ty),
        mask=in_frame[:, None] & (value_channel < value_channels)[None, :],
    )


def start_driver() -> None:
    """Starts Triton's driver, which compiles the C code that launches kernels. Raises if it cannot, of many types."""
    getattr(driver.active, "utils", None)


def launch(inputs: Inputs, processors: int) -> tuple[Tensor, Tensor]:
    """Output (B, h, w, Dv) and argmax_offset (B, 2, h, w) int64, of no elements when not asked for.

    inputs: with d and Dv at most 256. processors: the GPU's multiprocessors.
    """
    query, keys, values, valid, radius, with_offset, scale, position_weight, gather_index = inputs
    assert values is not None
    batch, channels, height, width = keys.shape
    value_channels = values.shape[1]
    output = values.new_empty((batch, height, width, value_channels))
    offset = valid.new_empty((batch, 2, height, width) if with_offset else (0,), dtype=torch.int64)
    # Large tiles share more keys; small ones keep every multiprocessor busy when there are few queries.
    tile = 8 if batch * triton.cdiv(height, 8) * triton.cdiv(width, 8) >= processors else 4
    constants, options = choices(torch.promote_types(query.dtype, values.dtype), channels, value_channels, tile)
    tiles_x = triton.cdiv(width, constants["TILE"])
    _window_attention[(triton.cdiv(height, constants["TILE"]) * tiles_x, batch)](
        query,
        keys,
        values,
        valid.contiguous(),
        position_weight,
        None if gather_index is None else gather_index.to(torch.int32).contiguous(),
        output,
        offset,
        height,
        width,
        channels,
        value_channels,
        tiles_x,
        scale * LOG2_E.value,
        *query.stride(),
        *keys.stride(),
        *values.stride(),
        RADIUS=radius,
        WITH_OFFSET=with_offset,
        WITH_POSITION=position_weight is not None,
        WITH_INDEX=gather_index is not None,
        INTERPRETED=isinstance(_window_attention, InterpretedFunction),
        **constants,
        **options,
    )
    return output, offset


def choices(dtype: torch.dtype, channels: int, value_channels: int, tile: int) -> tuple[dict[str, Any], dict[str, int]]:
    """The kernel's constants that follow from types and channels, and the compiler's options.

    By what the compiler reports for compute capability 8.0 and 9.0: registers that need not be spilt, and less than the
    99 KiB of shared memory that the smallest multiprocessors have. `dtype` is the wider of the types of keys and
    values. `tile` is the wish; very wide keys get 4.
    """
    row_bytes = max(channels, value_channels) * dtype.itemsize
    tile = tile if row_bytes <= 512 else 4
    single = dtype == torch.float32
    constants = {
        "TILE": tile,
        "BLOCK": max(16, min(64, 2 ** ((8192 // row_bytes).bit_length() - 1) // (2 if single and tile == 4 else 1))),
        "CHANNELS": max(16, triton.next_power_of_2(channels)),
        "VALUE_CHANNELS": max(16, triton.next_power_of_2(value_channels)),
        # As PyTorch's own matrix products: TF32 only where the user allowed it.
        "PRECISION": "ieee" if single and torch.get_float32_matmul_precision() == "highest" else "tf32",
    }
    return constants, {"num_warps": 8 if tile == 8 and row_bytes > 128 else 4, "num_stages": 2}
