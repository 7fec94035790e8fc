CLAIMS = f"{RESULTS}/claims.csv"


rule judge_claims:
    input:
        summaries=lambda w: [
            f"results/{w.folder}/{figure}/summary.csv"
            for figure in figures_claimed(of(w))
        ],
        predicates="workflow/scripts/claims.py",
    output:
        csv="results/{folder}/claims.csv",
        text="results/{folder}/claims.txt",
        html=report(
            "results/{folder}/claims.html",
            caption="../report/claims.rst",
            category="Claims",
            labels={"table": "verdicts", "runs": "{folder}"},
        ),
    log:
        "results/{folder}/logs/claims.log",
    conda:
        "../../envs/paella.yaml"
    params:
        figures=lambda w: figures_claimed(of(w)),
        claims=lambda w: to_builtins(of(w).settings.claims),
        alone_us=lambda w: alone_us(of(w)),
    message:
        "{wildcards.folder}: judge the claims"
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
