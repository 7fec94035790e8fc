"""paella serve, and what is run beside it, as a user starts them."""

from contextlib import contextmanager

from ipc_tools import fresh_name
from made_hardware import command

WORKLOAD = ["--mix", "both", "--iat", 300, "--jobs", 60]


def run(*arguments, status=0, **environment):
    process = command(*arguments, **environment)
    out, said = process.communicate(timeout=120)
    assert process.returncode == status, said
    return said if status else out


@contextmanager
def serving(*arguments, status=0, **environment):
    """A server's name; it has to end so when it is told to."""
    name = fresh_name()
    process = command("serve", "--name", name, *arguments, **environment)
    try:
        line = process.stdout.readline()
        assert line.startswith(f"serving as {name}: "), process.stderr.read()
        yield name, process
        process.terminate()
        process.wait(60)
        assert process.returncode == status, process.stderr.read()
    finally:
        process.kill()
        process.communicate()
