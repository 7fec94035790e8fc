"""What each command of the command line does. Heavy imports wait until they are needed."""

from paella.commands.about import devices, doctor, models, policies, systems
from paella.commands.kernels import check, compile_, profile, tune, zoo
from paella.commands.results import compare, export, import_, summary, trace
from paella.commands.runs import arrivals, run
from paella.commands.serving import load, serve, top
from paella.commands.triton import triton

__all__ = [
    "arrivals",
    "check",
    "compare",
    "compile_",
    "devices",
    "doctor",
    "export",
    "import_",
    "load",
    "models",
    "policies",
    "profile",
    "run",
    "serve",
    "summary",
    "systems",
    "top",
    "trace",
    "triton",
    "tune",
    "zoo",
]
