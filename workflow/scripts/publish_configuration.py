"""Which runs were measured, on which traces: what their simulation needs to know."""

import logged
import yaml

from paella.files import replacing


def main(job) -> None:
    with replacing(job.output[0]) as temporary:
        temporary.write_text(yaml.safe_dump(job.params.publication, sort_keys=False))


if __name__ == "__main__":
    logged.run(main, snakemake)  # noqa: F821
