"""Two installations of paella that a program compares, each named by its Python interpreter.

The two may be of different revisions. So a program uses only what is the same in both: the command
line, the files that it writes, and paella.simulate. The program itself imports nothing of paella.
"""

import argparse
import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

# With these, both installations would use the same package or configuration.
NOT_INHERITED = ("PAELLA_CONFIG", "PYTHONHOME", "PYTHONPATH")
FIND = "import importlib.util as util; print(util.find_spec('paella') is not None)"


@dataclass(frozen=True)
class Installation:
    python: Path
    version: str = ""

    def paella(self, *arguments, folder="/"):
        """Runs the program paella beside the interpreter in `folder`, to its end."""
        return _run([self.python.with_name("paella"), *arguments], folder)

    def code(self, text, *arguments, folder="/"):
        """Runs the Python program `text` in `folder`, to its end."""
        return _run([self.python, "-I", "-c", text, *arguments], folder)


def installation(text):
    """The installation of the interpreter `text`, as argparse converts an argument."""
    found = shutil.which(text)
    if not found:
        raise argparse.ArgumentTypeError(f"there is no program {text}")
    # Not resolved: the interpreter of a virtual environment is a link out of it.
    here = Installation(Path(found).absolute())
    try:
        has_paella = here.code(FIND).stdout.strip()
    except OSError:
        has_paella = ""
    if has_paella not in ("True", "False"):
        raise argparse.ArgumentTypeError(f"{text} is no Python interpreter")
    if has_paella == "False":
        raise argparse.ArgumentTypeError(f"{text} has no package paella")
    if not here.python.with_name("paella").is_file():
        raise argparse.ArgumentTypeError(f"{text} has no program paella beside it")
    done = here.paella("--version")
    if done.returncode:
        raise argparse.ArgumentTypeError(f"paella of {text} does not start: {last_line(done)}")
    return Installation(here.python, done.stdout.strip())


def add_arguments(parser):
    """BEFORE_PYTHON and AFTER_PYTHON, as `before` and `after`."""
    for name in ("before", "after"):
        parser.add_argument(
            name,
            type=installation,
            metavar=f"{name.upper()}_PYTHON",
            help="interpreter of the virtual environment that paella is installed in",
        )


def print_versions(arguments):
    for name in ("before", "after"):
        of = getattr(arguments, name)
        print(f"{name + ':':7} {of.version}, {of.python}", flush=True)


def last_line(done):
    """The last line of a failed command's errors."""
    lines = done.stderr.strip().splitlines()
    return lines[-1] if lines else f"exit status {done.returncode}"


def _run(command, folder):
    environment = {k: v for k, v in os.environ.items() if k not in NOT_INHERITED}
    return subprocess.run(
        list(map(str, command)),
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )
