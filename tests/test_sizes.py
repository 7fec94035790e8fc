"""Sizes that a reader can hold: functions and files are short, with few exceptions."""

import ast
import re
import subprocess
from pathlib import Path

import pytest

pytestmark = pytest.mark.no_engine

ROOT = Path(__file__).parents[1]
MOST_LINES = 400  # of a file
MOST_OF_PYTHON, MOST_OF_CPP = 50, 60  # lines of a function
CPP = (".cpp", ".hpp", ".cuh")

# What may be longer, and why: ten at most.
EXCEPTIONS = {
    "core/include/paella/client.hpp": "one header, which clients in C++ copy",
}


def python_functions(text):
    """(name, first line, lines) of every function."""
    functions = (ast.FunctionDef, ast.AsyncFunctionDef)
    nodes = (node for node in ast.walk(ast.parse(text)) if isinstance(node, functions))
    return [(node.name, node.lineno, node.end_lineno - node.lineno + 1) for node in nodes]


RAW = re.compile(r'R"(\w*)\(.*?\)\1"', re.DOTALL)
OTHER = re.compile(
    r"""//[^\n]*|/\*.*?\*/|"(?:\\.|[^"\\\n])*"|(?<!\w)'(?:\\.|[^'\\\n])+'"""
    r"""|^[ \t]*\#(?:[^\n]*\\\n)*[^\n]*|\[\[.*?\]\]|alignas\([^)]*\)""",
    re.DOTALL | re.MULTILINE,
)
TYPE = re.compile(r"\b(namespace|class|struct|enum|union|extern)\b[^()]*$")
NAME = re.compile(r"([~\w:]+|operator\S+)\s*\(")


def without_text(source):
    """C++ without comments, literals, directives and attributes, on the same lines."""

    def blank(match):
        return "\n" * match[0].count("\n")

    return OTHER.sub(blank, RAW.sub(blank, source))


def cpp_functions(text):
    """(name, line of its opening brace, lines) of every function that is in no other one."""
    text = without_text(text)
    found, blocks, begin = [], [], 0  # blocks: (name or None, first line), from outside to inside
    for match in re.finditer(r"[;{}]", text):
        line = text.count("\n", 0, match.start()) + 1
        if match[0] == "{":
            head = text[begin : match.start()].strip()
            inside = any(name for name, _ in blocks)
            name = None
            if not inside and ")" in head and not TYPE.search(head):
                called = NAME.search(head)
                name = called[1] if called else "lambda"
            blocks.append((name, line))
        elif match[0] == "}" and blocks:
            name, first = blocks.pop()
            if name:
                found.append((name, first, line - first + 1))
        begin = match.end()
    return found


def too_long(path, text):
    """A sentence for every violation in a file."""
    if text.count("\n") > MOST_LINES:
        yield f"{path} has {text.count(chr(10))} lines, over {MOST_LINES}"
    is_cpp = path.endswith(CPP)
    most = MOST_OF_CPP if is_cpp else MOST_OF_PYTHON
    for name, first, lines in (cpp_functions if is_cpp else python_functions)(text):
        if lines > most:
            yield f"{path}:{first}: the function {name} has {lines} lines, over {most}"


def tracked():
    command = ["git", "ls-files", "--", *(f"*{ending}" for ending in (".py", ".pyi", *CPP))]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        pytest.skip("this is no git repository")
    return [path for path in done.stdout.split() if (ROOT / path).is_file()]


def test_functions_and_files_are_short():
    violations = {path: list(too_long(path, (ROOT / path).read_text())) for path in tracked()}
    assert len(EXCEPTIONS) <= 10
    unneeded = [path for path in EXCEPTIONS if not violations.get(path)]
    assert unneeded == [], "no exceptions any more"
    left = [v for path, found in violations.items() if path not in EXCEPTIONS for v in found]
    assert left == [], "\n".join(left)


# ---- the measures


def body(lines, indent=4):
    return "".join(f"{' ' * indent}step({i});\n" for i in range(lines))


def test_a_long_function_in_python():
    text = "class A:\n    @cache\n    def f(self):\n" + body(50, 8)
    assert python_functions(text) == [("f", 3, 51)]
    assert list(too_long("a.py", text)) == ["a.py:3: the function f has 51 lines, over 50"]
    assert list(too_long("a.py", "def f():\n" + body(49))) == []


@pytest.mark.parametrize(
    ("head", "name"),
    [
        ("int f(const char* text)", "f"),
        ("template <class T>\nint Outer::f(T x) const noexcept", "Outer::f"),
        ("struct A : Base {\n  A(int x)\n      : x_(x) ", "A"),
        ("class alignas(64) A {\n  [[nodiscard]] auto f() -> std::vector<int>", "f"),
        ('const Registration r{"f", [](const Options& options) -> P', "lambda"),
    ],
)
def test_a_long_function_in_cpp(head, name):
    tricks = """  // one }
  if (x == '}') return "}{" + std::string(R"(})");
  for (;;) { g([](int y) { return y; }); }
"""
    ends = "}" * (1 + head.count("{"))
    text = f"namespace a {{\n{head} {{\n{tricks}{body(56)}{ends}\n}}\n"
    first = 2 + head.count("\n")
    assert cpp_functions(text) == [(name, first, 61)]
    sentence = f"a.cpp:{first}: the function {name} has 61 lines, over 60"
    assert list(too_long("a.cpp", text)) == [sentence]
    assert list(too_long("a.cpp", text.replace(body(56), body(50)))) == []


def test_types_and_tables_are_no_functions():
    text = "enum class A {\n" + "a,\n" * 70 + "};\nint table[] = {\n" + "f(1),\n" * 70 + "};\n"
    assert cpp_functions(text) == []


def test_a_long_file():
    assert list(too_long("a.hpp", "int x;\n" * 401)) == ["a.hpp has 401 lines, over 400"]
