"""Runs a script's main with its output in the job's log, errors as one sentence where possible."""

import sys
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from traceback import print_exc

from paella.errors import PaellaError


def run(main, job) -> None:
    with Path(job.log[0]).open("w") as log, redirect_stdout(log), redirect_stderr(log):
        try:
            main(job)
        except PaellaError as error:
            sys.exit(f"paella: {error}")
        except Exception:
            print_exc()
            sys.exit(1)
