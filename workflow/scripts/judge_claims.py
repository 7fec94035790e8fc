"""The verdicts on claims, as a table for programs, one for the report, and as text."""

import textwrap
from html import escape

import claims
import logged
import msgspec
import pandas as pd

from paella.files import replacing
from paella.workflow_config import Claim

COLOURS = {"pass": "#117733", "fail": "#B22222"}
PAGE = """<!DOCTYPE html>
<meta charset="utf-8">
<title>Claims</title>
<style>
body {{ font: 14px/1.4 sans-serif; margin: 1em }}
table {{ border-collapse: collapse }}
td, th {{ border-top: 1px solid #ccc; padding: .4em .7em; text-align: left; vertical-align: top }}
</style>
<table>
<tr><th>Claim</th><th>Figure</th><th>Verdict</th><th>Numbers</th><th>Judged on</th></tr>
{rows}
</table>
"""


def judged_on(judgement: claims.Judgement) -> str:
    seeds = f"{judgement.seeds} seed{'s' if judgement.seeds != 1 else ''}"
    return f"{judgement.source or 'nothing'}, {seeds}"


def as_frame(judgements: list[claims.Judgement]) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "id": j.claim.name,
            "claim": j.claim.claim,
            "figure": j.claim.figure,
            "origin": j.claim.origin,
            "verdict": j.verdict,
            "evidence": j.evidence,
            "source": j.source,
            "seeds": j.seeds,
        }
        for j in judgements
    )


def as_text(judgements: list[claims.Judgement]) -> str:
    lines = []
    for j in judgements:
        lines.append(f"{j.verdict.upper():<18} {j.claim.claim}")
        text = f"{j.claim.name}, {j.claim.figure}, {judged_on(j)}: {j.evidence}"
        lines += textwrap.wrap(text, 100, initial_indent=" " * 19, subsequent_indent=" " * 19)
    counts = pd.Series([j.verdict for j in judgements], dtype=str).value_counts(sort=False)
    lines += ["", ", ".join(f"{count} {verdict}" for verdict, count in counts.items())]
    return "\n".join(lines) + "\n"


def as_html(judgements: list[claims.Judgement]) -> str:
    rows = []
    for j in judgements:
        verdict = f'<b style="color:{COLOURS.get(j.verdict, "#555")}">{j.verdict}</b>'
        cells = (escape(j.claim.claim), j.claim.figure, verdict, escape(j.evidence))
        row = "".join(f"<td>{cell}</td>" for cell in (*cells, escape(judged_on(j))))
        rows.append(f"<tr>{row}</tr>")
    return PAGE.format(rows="\n".join(rows))


def main(job) -> None:
    paths = zip(job.params.figures, job.input.summaries, strict=True)
    runs = {figure: pd.read_csv(path) for figure, path in paths}
    wanted = msgspec.convert(job.params.claims, dict[str, Claim])
    judgements = [
        claims.judge(claim, runs[claim.figure], job.params.alone_us) for claim in wanted.values()
    ]
    with replacing(job.output.csv) as temporary:
        as_frame(judgements).to_csv(temporary, index=False)
    with replacing(job.output.text) as temporary:
        temporary.write_text(as_text(judgements))
    with replacing(job.output.html) as temporary:
        temporary.write_text(as_html(judgements))


if __name__ == "__main__":
    logged.run(main, snakemake)  # noqa: F821
