rule plot_latency:
    input:
        summary=f"{RESULTS}/{{experiment}}/summary.csv",
        imported=WORKFLOW.settings.imported,
        style="workflow/scripts/style.py",
    output:
        **figure_formats(
            f"{FIGURES}/{{experiment}}_lns{{sigma}}",
            caption="../report/latency.rst",
            category="Figures",
            subcategory="{experiment}",
            labels={"figure": "{experiment}", "sigma": "{sigma}"},
        ),
    log:
        f"{LOGS}/{{experiment}}/plot_lns{{sigma}}.log",
    wildcard_constraints:
        experiment=swept("loads"),
    conda:
        "../../envs/paella.yaml"
    params:
        experiment=lambda w: to_builtins(WORKFLOW.experiments[w.experiment]),
        systems=ORIGINS,
    message:
        "draw {output.pdf}"
    script:
        "../scripts/plot_latency.py"


rule plot_fairness:
    input:
        summary=f"{RESULTS}/{{experiment}}/summary.csv",
        imported=WORKFLOW.settings.imported,
        style="workflow/scripts/style.py",
    output:
        **figure_formats(
            f"{FIGURES}/{{experiment}}",
            caption="../report/fairness.rst",
            category="Figures",
            subcategory="{experiment}",
            labels={"figure": "{experiment}", "sigma": "all"},
        ),
    log:
        f"{LOGS}/{{experiment}}/plot.log",
    wildcard_constraints:
        experiment=swept("thresholds"),
    conda:
        "../../envs/paella.yaml"
    params:
        experiment=lambda w: to_builtins(WORKFLOW.experiments[w.experiment]),
    message:
        "draw {output.pdf}"
    script:
        "../scripts/plot_fairness.py"
