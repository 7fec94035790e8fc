# What was measured, in the repository: published by who has the GPU, drawn and compared with the
# simulation by everybody.
if ON_GPU:

    rule publish_measured:
        input:
            summary=f"{RESULTS}/{{experiment}}/summary.csv",
            runs=lambda w: [
                f"{RESULTS}/{run.path}" for run in WORKFLOW.published(w.experiment)
            ],
        output:
            summary=f"{MEASURED}/{{experiment}}.csv",
            runs=directory(f"{MEASURED}/{{experiment}}"),
        log:
            f"{LOGS}/{{experiment}}/publish.log",
        conda:
            "../../envs/paella.yaml"
        message:
            "publish {wildcards.experiment}"
        script:
            "../scripts/publish_measured.py"

    rule publish:
        input:
            [f"{MEASURED}/{experiment}.csv" for experiment in WORKFLOW.experiments],

else:

    rule plot_measured:
        input:
            measured=f"{MEASURED}/{{experiment}}.csv",
            simulated=f"{RESULTS}/{{experiment}}/summary.csv",
            style="workflow/scripts/style.py",
            latency="workflow/scripts/plot_latency.py",
        output:
            pdf=f"{COMPARED}/{{experiment}}_lns{{sigma}}.pdf",
            png=f"{COMPARED}/{{experiment}}_lns{{sigma}}.png",
            svg=report(
                f"{COMPARED}/{{experiment}}_lns{{sigma}}.svg",
                caption="../report/measured.rst",
                category="Measured",
                subcategory="{experiment}",
                labels={"figure": "{experiment}", "sigma": "{sigma}"},
            ),
        log:
            f"{LOGS}/{{experiment}}/plot_measured_lns{{sigma}}.log",
        conda:
            "../../envs/paella.yaml"
        params:
            experiment=lambda w: to_builtins(WORKFLOW.experiments[w.experiment]),
            systems=ORIGINS,
        message:
            "draw {output.pdf}"
        script:
            "../scripts/plot_measured.py"

    rule compare_with_measured:
        input:
            measured=f"{MEASURED}/{{experiment}}.csv",
            simulated=f"{RESULTS}/{{experiment}}/summary.csv",
            style="workflow/scripts/style.py",
        output:
            points=f"{COMPARED}/{{experiment}}_errors.csv",
            text=f"{COMPARED}/{{experiment}}_errors.txt",
            pdf=f"{COMPARED}/{{experiment}}_errors.pdf",
            png=f"{COMPARED}/{{experiment}}_errors.png",
            svg=report(
                f"{COMPARED}/{{experiment}}_errors.svg",
                caption="../report/errors.rst",
                category="Measured",
                subcategory="{experiment}",
                labels={"figure": "{experiment}, simulation's errors", "sigma": "all"},
            ),
        log:
            f"{LOGS}/{{experiment}}/compare_with_measured.log",
        conda:
            "../../envs/paella.yaml"
        message:
            "{wildcards.experiment}: how far the simulation is from what was measured"
        script:
            "../scripts/compare_with_measured.py"

    rule measured:
        input:
            comparisons,
