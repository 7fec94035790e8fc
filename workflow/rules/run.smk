# On a GPU a system's runs of an experiment are listed: loaded once, it makes them all, and the runs
# after the first are there when they are asked for. The list is no input: with a point more in it
# the other runs are as good as they were.
onstart:
    if ON_GPU:
        WORKFLOW.list_runs(Path(RESULTS))


# The digest covers all that a run's rows depend on, so that a change of it reruns the run, and a
# cache shared between workflows keeps configurations apart. On a GPU a run has the machine to
# itself, and is measured anew rather than taken from a cache; its plans are inputs.
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
        spec=lambda w: of(w).spec(planned(w)),
        options=lambda w: [
            *of(w).hardware_options,
            *([f"--ahead {RESULTS}/{WORKFLOW.list_of(**w)}"] if ON_GPU else []),
        ],
        digest=lambda w: of(w).digest(planned(w)),
    message:
        "{wildcards.folder}, {wildcards.experiment}: {wildcards.system},"
        " sigma {wildcards.sigma}, {wildcards.point}, seed {wildcards.seed}"
    shell:
        "paella run --spec - {params.options} --out {output} > {log} 2>&1 <<'RUN'\n"
        "{params.spec}\nRUN"


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
        labels=lambda w: of(w).labels(),
    message:
        "{wildcards.folder}, {wildcards.experiment}: summary of its runs"
    script:
        "../scripts/summarise_runs.py"
