CLAIMS = f"{RESULTS}/claims.csv"


rule judge_claims:
    input:
        summaries=list(
            dict.fromkeys(
                summary_of(c.figure) for c in WORKFLOW.settings.claims.values()
            )
        ),
        predicates="workflow/scripts/claims.py",
    output:
        csv=CLAIMS,
        text=f"{RESULTS}/claims.txt",
        html=report(
            f"{RESULTS}/claims.html",
            caption="../report/claims.rst",
            category="Claims",
            labels={"table": "verdicts"},
        ),
    log:
        f"{LOGS}/claims.log",
    conda:
        "../../envs/paella.yaml"
    params:
        claims=to_builtins(WORKFLOW.settings.claims),
        alone_us={
            name: model.alone_us for name, model in WORKFLOW.profile.models.items()
        },
        limits_ms={name: e.y_limit_ms for name, e in WORKFLOW.experiments.items()},
    message:
        "judge the claims"
    script:
        "../scripts/judge_claims.py"


rule claims:
    input:
        f"{RESULTS}/claims.txt",
    log:
        f"{LOGS}/claims_shown.log",
    conda:
        "../../envs/paella.yaml"
    message:
        "verdicts on the paper's claims"
    shell:
        "tee {log} < {input}"
