"""The workflow's configuration, and copies of the project in which it runs."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from paella.config import Config
from paella.reading import read_yaml
from paella.workflow_config import Workflow

ROOT = Path(__file__).parents[1]


def merged(*overlays):
    """What Snakemake makes of the defaults and overlays."""

    def merge(base, over):
        for key, value in over.items():
            if isinstance(value, dict) and isinstance(base.get(key), dict):
                merge(base[key], value)
            else:
                base[key] = value
        return base

    config = {}
    for name in ("config", "experiments", "claims"):
        merge(config, read_yaml(ROOT / "config" / f"{name}.yaml"))
    for overlay in overlays:
        known = isinstance(overlay, str)
        merge(config, read_yaml(ROOT / "config" / f"{overlay}.yaml") if known else overlay)
    return config


def workflow(*overlays):
    return Workflow(merged(*overlays), Config(ROOT / "config"))


def change(file, entry, key, value):
    """One value of a YAML file."""
    content = read_yaml(file)
    content[entry][key] = value
    file.write_text(yaml.safe_dump(content, sort_keys=False))


class Project:
    """A copy of what the workflow needs, with a command `paella` that a test may break."""

    def __init__(self, folder):
        self.folder = folder

    def __truediv__(self, path):
        return self.folder / path

    def command(self, prologue=""):
        """Makes `paella` run `prologue`, lines of shell, before it does what it does."""
        (self / "bin").mkdir(exist_ok=True)
        script = f'#!/bin/sh\n{prologue}\nexec {sys.executable} -m paella.cli "$@"\n'
        (self / "bin" / "paella").write_text(script)
        (self / "bin" / "paella").chmod(0o755)

    def start(self, *arguments, **environment):
        path = f"{self / 'bin'}{os.pathsep}{os.environ['PATH']}"
        return subprocess.Popen(
            [sys.executable, "-m", "snakemake", *arguments],
            cwd=self.folder,
            env=os.environ | {"PATH": path} | environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def snakemake(self, *arguments, status=0, **environment):
        process = self.start(*arguments, **environment)
        output, _ = process.communicate(timeout=300)
        assert process.returncode == status, output
        return output

    def planned(self, *arguments):
        """Rule -> number of jobs, of a dry run."""
        output = self.snakemake("-n", *arguments)
        return {rule: int(n) for rule, n in re.findall(r"^(\w+) +(\d+)$", output, re.MULTILINE)}


def copied(source, folder):
    """With the times of all files, so that what was up to date still is."""
    for name in ("Snakefile", "workflow", "config", "envs", "results", "figures", ".snakemake"):
        path = Path(source, name)
        if path.is_dir():
            shutil.copytree(path, folder / name)
        elif path.is_file():
            shutil.copy2(path, folder / name)
    (folder / "profiles").symlink_to("workflow/profiles")
    project = Project(folder)
    project.command()
    return project


@pytest.fixture
def project(tmp_path):
    project = copied(ROOT, tmp_path)
    for outputs in ("results", "figures", ".snakemake"):
        shutil.rmtree(project / outputs, ignore_errors=True)
    return project
