# On a GPU a system's runs of an experiment are listed: loaded once, it makes them all, and the runs
# after the first are there when they are asked for. The list is no input: with a point more in it
# the other runs are as good as they were.
onstart:
    if ON_GPU:
        WORKFLOW.list_runs(Path(RESULTS))


# Everything that decides a run's result is a param, so that a change of it reruns the run and
# a cache shared between workflows keeps configurations apart. On a GPU a run has the machine to
# itself, and is measured anew rather than taken from a cache.
rule run_system:
    input:
        lambda w: of(w).plans(w.experiment),
        lambda w: [ancient(installed_triton(r)) for r in of(w).releases(w.system)],
    output:
        f"results/{{folder}}/{RUN}.parquet",
    log:
        f"results/{{folder}}/logs/{RUN}.log",
    cache: False if ON_GPU else "omit-software"
    conda:
        "../../envs/paella.yaml"
    threads: (workflow.cores or 1) if ON_GPU else 1
    resources:
        gpu=1 if ON_GPU else 0,
    params:
        backend=lambda w: of(w).settings.backend,
        device=lambda w: of(w).settings.device,
        profile=lambda w: of(w).settings.profile or of(w).device.profile,
        system="{system}",
        mix=lambda w: of(w).experiments[w.experiment].mix,
        arrival=lambda w: planned(w).arrival,
        iat=lambda w: number(planned(w).iat_us),
        sigma="{sigma}",
        jobs=lambda w: of(w).settings.jobs,
        seed="{seed}",
        options=lambda w: [
            *(["--rescale"] if of(w).settings.rescale else []),
            *(f"--set {key}={value}" for key, value in planned(w).overrides.items()),
            *of(w).hardware_options,
            *([f"--ahead {RESULTS}/{WORKFLOW.list_of(**w)}"] if ON_GPU else []),
        ],
        definitions=lambda w: of(w).digest(w.experiment, w.system),
        engine=ENGINE,
    message:
        "{params.device}, {wildcards.experiment}: {params.system}, sigma {params.sigma},"
        " {wildcards.point}, seed {params.seed}"
    shell:
        "paella run --backend {params.backend} --device {params.device}"
        " --profile {params.profile} --system {params.system} --mix {params.mix}"
        " --arrival {params.arrival} --iat {params.iat} --sigma {params.sigma}"
        " --jobs {params.jobs} --seed {params.seed} {params.options}"
        " --out {output} > {log} 2>&1"


rule summarise_runs:
    input:
        runs_of,
    output:
        "results/{folder}/{experiment}/summary.csv",
    log:
        "results/{folder}/logs/{experiment}/summary.log",
    conda:
        "../../envs/paella.yaml"
    params:
        engine=ENGINE,
    message:
        "{wildcards.folder}, {wildcards.experiment}: summary of its runs"
    script:
        "../scripts/summarise_runs.py"
