"""Kernels that say where a chain of them is, at next to no cost: plain source in, chained out.

A chained kernel has the old one's parameters followed by `(unsigned long long paella_at, unsigned
paella_position)`. When its block with the highest linear index starts, it writes `paella_position`
to the word of mapped host memory at `paella_at`, and waits for nothing. The hardware places blocks
in the order of their index, so all of them have been placed, and the kernel before it in the stream
has finished: what an instrumented kernel tells in two words (notify.cuh), told one kernel later.
As `placed` there, it is a hint for scheduling and orders no memory. The last kernel of what is
issued together is an instrumented one.

All of it is one asm statement in front of the kernel's own code, with the indices read inside and
the shape known: any more, and ptxas schedules the kernel's loops otherwise than the plain kernel's.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

from paella.compiler.instrument import Kernel, rewrite
from paella.plan import Dim3, Launch

_UNKNOWN = (None, None, None)
_PARAMETERS = ("unsigned long long paella_at", "unsigned paella_position")


def chain(source: str, launches: Iterable[Launch]) -> str:
    """The CUDA source with all its kernels chained; `launches` tell their shapes.

    InstrumentError as of `instrument`.
    """
    shapes: dict[str, set[tuple[Dim3, Dim3]]] = defaultdict(set)
    for launch in launches:
        shapes[launch.symbol].add((launch.grid, launch.block))

    def chained(kernel: Kernel) -> str:
        signature = kernel.signature(_PARAMETERS)
        if kernel.body is None:
            return f"{signature};"
        known = shapes[kernel.name]
        note = _note(*min(known)) if len(known) == 1 else _note(None, None)
        return f"{signature} {{\n{note}{kernel.body[1:]}"

    return rewrite(source, chained)


def _note(grid: Dim3 | None, block: Dim3 | None) -> str:
    """The statement for launches of this shape; of any shape where it is not known."""
    code = [".reg .pred p; .reg .u32 a, b, c;", "mov.u32 a, 0;"]
    for x, size in zip("xyz", block or _UNKNOWN, strict=True):
        if size != 1:
            code.append(f"mov.u32 b, %%tid.{x}; or.b32 a, a, b;")
    for x, size in zip("xyz", grid or _UNKNOWN, strict=True):
        if size is None:
            code.append(f"mov.u32 c, %%nctaid.{x}; sub.u32 c, c, 1;")
        if size != 1:
            highest = "c" if size is None else size - 1
            code.append(f"mov.u32 b, %%ctaid.{x}; xor.b32 b, b, {highest}; or.b32 a, a, b;")
    code += ["setp.eq.u32 p, a, 0;", "@p st.relaxed.sys.global.u32 [%0], %1;"]
    lines = "\n".join(f'      "{line}"' for line in code)
    return f'  asm volatile("{{"\n{lines}\n      "}}" ::"l"(paella_at), "r"(paella_position));\n'
