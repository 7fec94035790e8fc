from snakemake.utils import min_version

min_version("9.0")


configfile: "config/config.yaml"
configfile: "config/experiments.yaml"
configfile: "config/claims.yaml"


include: "workflow/rules/common.smk"
include: "workflow/rules/plans.smk"
include: "workflow/rules/triton.smk"
include: "workflow/rules/run.smk"
include: "workflow/rules/plot.smk"
include: "workflow/rules/claims.smk"
include: "workflow/rules/published.smk"
include: "workflow/rules/measured.smk"


report: "workflow/report/workflow.rst"


rule all:
    default_target: True
    input:
        [figures(experiment) for experiment in WORKFLOW.experiments],
        CLAIMS,


rule fig11:
    input:
        figures("fig11"),


rule fig12:
    input:
        figures("fig12"),


rule fig13:
    input:
        figures("fig13"),
