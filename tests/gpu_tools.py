"""What blocks take of an SM, and timelines as rows."""

import math

SLOTS = {"blocks": 1}  # SMs that hold one block each

# ---- resources, in threads, registers, bytes and slots


def occupied(shape, sm):
    """What one block takes: whole warps, registers by 256 for each of them, memory by 128 bytes."""
    threads, regs, smem = shape["shape"].values()
    warps = math.ceil(threads / 32)
    return (
        warps * 32,
        warps * math.ceil(regs * 32 / 256) * 256,
        math.ceil((smem + sm["reserved_smem_bytes"]) / 128) * 128,
        1,
    )


def limits(sm):
    return sm["threads"], sm["regs"], sm["smem_bytes"], sm["blocks"]


def rows(table):
    columns = [column.tolist() for column in table.values()]
    return [dict(zip(table, row, strict=True)) for row in zip(*columns, strict=True)]
