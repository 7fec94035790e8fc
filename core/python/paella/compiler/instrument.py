"""Kernels that tell the host how far they are: plain CUDA source in, instrumented source out.

Every kernel's body moves into an inlined function, and a kernel of the same name takes its place:
it says that its block has started, runs the body, and says that it has finished. The new kernel has
the old one's parameters followed by `(PaellaSlot* slot, unsigned long long words, unsigned
level)`; what these mean, and how the host is told, is written in notify.cuh, which the result
contains.

A pure function on text, so it can be called from a compiler's hook, and no GPU is needed.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from paella.errors import PaellaError
from paella.files import package_file

_NOTES_PARAMETERS = (
    "PaellaSlot* paella_slot",
    "unsigned long long paella_words",
    "unsigned paella_level",
)
_NOTES = "paella_slot, paella_words, paella_level"

# Comments, directives and literals can hold anything; the parser looks at the source without them.
_OPAQUE = re.compile(
    r"""//(?:\\\n|[^\n])*"""
    r"""|/\*.*?\*/"""
    r"""|^[ \t]*\#(?:\\\r?\n|[^\n])*"""
    r"""|R"(?P<mark>[^()\s\\]{0,16})\(.*?\)(?P=mark)\""""
    r'''|"(?:\\.|[^"\\\n])*"'''
    r"""|(?<![0-9A-Za-z_])'(?:\\.|[^'\\\n])+'""",
    re.DOTALL | re.MULTILINE | re.VERBOSE,
)
_GLOBAL = re.compile(r"\b__global__\b")
_CALL = re.compile(r"\b([A-Za-z_]\w*)\s*\(")
_ATTRIBUTES = {
    *("__launch_bounds__", "__maxnreg__", "__cluster_dims__", "__block_size__"),
    *("__attribute__", "__declspec", "__align__", "alignas"),
}
_BRACKETS = {"(": re.compile(r"[()]"), "{": re.compile(r"[{}]")}
_SOMETHING = re.compile(r"\S")
_PARAMETER = re.compile(r".*[\s*&>]([A-Za-z_]\w*)\s*(?:\[[^\]]*\]\s*)*", re.DOTALL)


class InstrumentError(PaellaError):
    """A source that cannot be instrumented: what is wrong with it, and where."""


def notify_source() -> str:
    """The device code of the notifications, as it stands in front of instrumented kernels."""
    path = package_file("device_code") / "notify.cuh"
    try:
        return path.read_text(encoding="utf-8")
    except OSError as e:
        raise InstrumentError(f"cannot read {path}: {e.strerror}") from None


def instrument(source: str) -> str:
    """The CUDA source with all its kernels instrumented.

    `source` is one module; nvcc needs no include path for the result that it did not need before.
    InstrumentError if it holds no kernel, is instrumented already, or cannot be taken apart.
    """
    return notify_source() + rewrite(source, Kernel.instrumented)


def rewrite(source: str, new: Callable[[Kernel], str]) -> str:
    """`source` with every declaration and definition of a kernel replaced by what `new` says."""
    code = _OPAQUE.sub(_blank, source)
    if re.search(r"\bpaella_(?:begin|at)\b", code):
        raise InstrumentError("the source is instrumented already")
    kernels = _kernels(source, code)
    if not any(k.body is not None for k in kernels):
        raise InstrumentError("the source has no kernel")
    out, done = [], 0
    for kernel in kernels:
        out += [source[done : kernel.start], new(kernel)]
        done = kernel.end
    return "".join([*out, source[done:]])


def _blank(match: re.Match[str]) -> str:
    """As many characters and lines, and nothing in them; a directive leaves a mark at its end."""
    text = re.sub(r"[^\n]", " ", match[0])
    return text[:-1] + "#" if match[0].lstrip(" \t").startswith("#") else text


@dataclass(frozen=True)
class Kernel:
    """One declaration or definition of a kernel, at source[start:end]."""

    start: int
    end: int
    head: str  # up to the parameter list: linkage, __global__, bounds, name
    name: str
    parameters: list[str]
    names: list[str]  # of the parameters
    body: str | None  # with its braces

    def signature(self, more: Iterable[str]) -> str:
        """The head with parameters, and `more` of them behind the kernel's own."""
        return f"{self.head}({', '.join((*self.parameters, *more))})"

    def instrumented(self) -> str:
        signature = self.signature(_NOTES_PARAMETERS)
        if self.body is None:
            return signature + ";"
        inner = f"paella_body_{self.name}"
        return (
            f"static __device__ __forceinline__ void {inner}({', '.join(self.parameters)}) "
            f"{self.body}\n"
            f"{signature} {{\n"
            f"  paella_begin({_NOTES});\n"
            f"  {inner}({', '.join(self.names)});\n"
            f"  paella_end({_NOTES});\n"
            "}"
        )


def _kernels(source: str, code: str) -> list[Kernel]:
    """All of them in order; `code` is the source with everything opaque blanked."""
    found, at = [], 0
    while match := _GLOBAL.search(code, at):
        kernel = _kernel(source, code, match.start())
        found.append(kernel)
        at = kernel.end
    return found


def _kernel(source: str, code: str, at: int) -> Kernel:
    """The kernel whose `__global__` stands at `at`."""
    start = _next(code, max(code.rfind(c, 0, at) for c in ";{}#") + 1)
    opening = _parameter_list(code, at)
    head = source[start:opening].rstrip()
    name = code[at:opening].split()[-1]
    if re.search(r"\btemplate\b", code[start:at]):
        raise InstrumentError(f"kernel {name} is a template, which cannot be instrumented")
    closing = _matching(code, opening, f"the parameters of kernel {name} do not end")
    spans = _split(code, opening + 1, closing)
    parameters = [source[a:b] for a, b in spans]
    body = _next(code, closing + 1)
    if code[body : body + 1] == ";":
        return Kernel(start, body + 1, head, name, parameters, [], None)
    if code[body : body + 1] != "{":
        raise InstrumentError(f"neither a body nor a semicolon follows kernel {name}'s parameters")
    end = _matching(code, body, f"the body of kernel {name} does not end") + 1
    names = [_parameter_name(code[a:b], name) for a, b in spans]
    return Kernel(start, end, head, name, parameters, names, source[body:end])


def _next(code: str, at: int) -> int:
    """Where the next character stands that is no white space."""
    match = _SOMETHING.search(code, at)
    return match.start() if match else len(code)


def _parameter_list(code: str, at: int) -> int:
    """Where the parameter list opens; attributes with arguments may stand before the name."""
    for match in _CALL.finditer(code, at):
        if re.search(r"[;{}]", code[at : match.start()]):
            break
        if match.start() < at:
            continue
        if match[1] not in _ATTRIBUTES:
            return match.end() - 1
        at = _matching(code, match.end() - 1, f"{match[1]} does not end") + 1
    line = code.count("\n", 0, at) + 1
    raise InstrumentError(f"line {line}: no kernel's name and parameters follow __global__")


def _matching(code: str, opening: int, wrong: str) -> int:
    """Where the bracket closes that opens at `opening`; InstrumentError(wrong) if nowhere."""
    depth = 0
    for match in _BRACKETS[code[opening]].finditer(code, opening):
        depth += 1 if match[0] == code[opening] else -1
        if depth == 0:
            return match.start()
    raise InstrumentError(wrong)


def _split(code: str, start: int, end: int) -> list[tuple[int, int]]:
    """The parameters between two places, as places; commas inside brackets do not part them."""
    if code[start:end].strip() in ("", "void"):
        return []
    depth, commas = 0, [start - 1]
    for at in range(start, end):
        depth += (code[at] in "(<[{") - (code[at] in ")>]}")
        if code[at] == "," and depth == 0:
            commas.append(at)
    return [(_next(code, a + 1), b) for a, b in itertools.pairwise([*commas, end])]


def _parameter_name(parameter: str, kernel: str) -> str:
    match = _PARAMETER.fullmatch(parameter)
    if not match:
        what = " ".join(parameter.split())
        raise InstrumentError(f"kernel {kernel}'s parameter {what!r} has no name to pass it on by")
    return match[1]
