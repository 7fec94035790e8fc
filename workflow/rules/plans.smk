# Launch plans that are there are used as they are: paella run refuses any that the profile does
# not describe.
rule make_plan:
    output:
        f"{WORKFLOW.settings.plans}/{{model}}/plan.json",
    log:
        f"{LOGS}/plans/{{model}}.log",
    wildcard_constraints:
        model=one_of(WORKFLOW.profile.models),
    conda:
        "../../envs/paella.yaml"
    params:
        folder=f"{WORKFLOW.settings.plans}/{{model}}",
        onnx=f"{WORKFLOW.settings.plans}/onnx",
        arch=WORKFLOW.arch,
    message:
        "compile {wildcards.model}"
    shell:
        "(paella zoo --out {params.onnx} --models {wildcards.model}"
        " && paella compile {params.onnx}/{wildcards.model}.onnx --arch {params.arch}"
        " --out {params.folder}) > {log} 2>&1"
