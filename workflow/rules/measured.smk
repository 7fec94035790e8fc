# What was measured, in the repository: published by who has the GPU, drawn, judged and compared with
# the simulation of the same runs by everybody.
if ON_GPU:

    rule publish_configuration:
        output:
            f"{MEASURED}/{WORKFLOW.settings.device}/configuration.yaml",
        log:
            f"{LOGS}/publish.log",
        conda:
            "../../envs/paella.yaml"
        params:
            publication=WORKFLOW.publication(),
        message:
            "publish the configuration"
        script:
            "../scripts/publish_configuration.py"

    rule publish_measured:
        input:
            summary=f"{RESULTS}/{{experiment}}/summary.csv",
            runs=lambda w: [
                f"{RESULTS}/{run.path}" for run in WORKFLOW.published(w.experiment)
            ],
        output:
            summary=f"{MEASURED}/{WORKFLOW.settings.device}/{{experiment}}.csv",
            runs=directory(f"{MEASURED}/{WORKFLOW.settings.device}/{{experiment}}"),
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
            rules.publish_configuration.output,
            [
                f"{MEASURED}/{WORKFLOW.settings.device}/{experiment}.csv"
                for experiment in WORKFLOW.experiments
            ],

else:

    rule plot_measured:
        input:
            unpack(
                lambda w: measured_and_simulated(
                    w.device, figures_of(w.device)[w.figure][0].name
                )
            ),
            style="workflow/scripts/style.py",
            plots=[
                f"workflow/scripts/plot_{kind}.py" for kind in ("latency", "fairness")
            ],
        output:
            **figure_formats(
                f"{COMPARED}/{{device}}/{{figure}}",
                caption="../report/measured.rst",
                category="Measured",
                subcategory="{device}",
                labels={"figure": "{figure}"},
            ),
        log:
            f"{COMPARED}/logs/{{device}}/{{figure}}.log",
        wildcard_constraints:
            figure=one_of(name for device in PUBLISHED for name in figures_of(device))
            or "(?!)",
        conda:
            "../../envs/paella.yaml"
        params:
            experiment=lambda w: to_builtins(figures_of(w.device)[w.figure][0]),
            sigma=lambda w: figures_of(w.device)[w.figure][1],
            systems=ORIGINS,
        message:
            "draw {output.pdf}"
        script:
            "../scripts/plot_measured.py"

    rule compare_with_measured:
        input:
            unpack(lambda w: measured_and_simulated(w.device, w.experiment)),
            style="workflow/scripts/style.py",
        output:
            **figure_formats(
                f"{COMPARED}/{{device}}/{{experiment}}_errors",
                caption="../report/errors.rst",
                category="Measured",
                subcategory="{device}",
                labels={"figure": "{experiment}, errors of the simulation"},
            ),
            points=f"{COMPARED}/{{device}}/{{experiment}}_errors.csv",
            text=f"{COMPARED}/{{device}}/{{experiment}}_errors.txt",
        log:
            f"{COMPARED}/logs/{{device}}/{{experiment}}_errors.log",
        conda:
            "../../envs/paella.yaml"
        message:
            "{wildcards.device}, {wildcards.experiment}: how far the simulation is from what was measured"
        script:
            "../scripts/compare_with_measured.py"

    use rule judge_claims as judge_measured_claims with:
        input:
            summaries=lambda w: [
                f"{MEASURED}/{w.device}/{figure}.csv"
                for figure in figures_claimed(AGAIN[w.device])
            ],
            predicates="workflow/scripts/claims.py",
        output:
            csv=f"{COMPARED}/{{device}}/claims.csv",
            text=f"{COMPARED}/{{device}}/claims.txt",
            html=f"{COMPARED}/{{device}}/claims.html",
        log:
            f"{COMPARED}/logs/{{device}}/claims.log",
        params:
            figures=lambda w: figures_claimed(AGAIN[w.device]),
            claims=lambda w: to_builtins(AGAIN[w.device].settings.claims),
            alone_us=lambda w: alone_us(AGAIN[w.device]),
        message:
            "{wildcards.device}, measured: judge the claims"

    rule evaluation:
        input:
            sides=[table for device in AGAIN for table in sides(device)],
            errors=each(f"{COMPARED}/{{device}}/{{experiment}}_errors.csv"),
            maps=each(f"{COMPARED}/{{device}}/{{experiment}}_errors.png"),
            figures=[
                f"{COMPARED}/{device}/{figure}.png"
                for device in PUBLISHED
                for figure in figures_of(device)
            ],
            summaries=each(f"{MEASURED}/{{device}}/{{experiment}}.csv"),
            again=published_files("*_again.csv"),
            about=published_files("about.yaml"),
            template="workflow/report/evaluation.html",
        output:
            html=report(
                f"{COMPARED}/evaluation.html",
                caption="../report/evaluation.rst",
                category="Evaluation",
                labels={"page": "all that was measured, as one text"},
            ),
            claims=f"{COMPARED}/claims.csv",
            errors=f"{COMPARED}/errors.txt",
        log:
            f"{COMPARED}/logs/evaluation.log",
        conda:
            "../../envs/paella.yaml"
        params:
            labels={name: AGAIN[name].device.label for name in PUBLISHED},
            experiments={
                name: to_builtins(experiment)
                for device in PUBLISHED
                for name, experiment in AGAIN[device].experiments.items()
            },
            sides=[side for device in AGAIN for side in side_labels(device)],
        message:
            "write {output.html}"
        script:
            "../scripts/write_evaluation.py"

    rule measured:
        input:
            [f"{COMPARED}/evaluation.html"] if PUBLISHED else nothing_measured,
