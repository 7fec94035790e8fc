"""Runs whose admission decides. Host and notifications cost no time, every stream has a queue of
its own: a kernel becomes eligible in the moment in which it is issued.
"""

from made_gpu import device, kernel, model, serve

GPU = device(2)  # two SMs of 1024 threads: a pool of 2048
WHOLE = model(kernel(2, 100, threads=1024))
HALF = model(kernel(1, 100, threads=1024))
SMALL = model(kernel(1, 100, threads=32))


def admit(name, models, jobs, /, *, gpu=GPU, **settings):
    """A run with the admission's options and the system's settings; by default a job is a unit."""
    options = {k: float(settings.pop(k)) for k in ("extra_kernels", "jobs") if k in settings}
    settings = {"notify": {"blocks": 16}} | settings
    return serve(gpu, models, jobs, admission={"name": name, **options}, **settings)
