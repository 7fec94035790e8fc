#!/bin/sh
# Run by Snakemake in the new environment, from the folder of the Snakefile.
set -e
pip install --no-deps --no-build-isolation .
