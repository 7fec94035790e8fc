"""How every figure looks: one colour and one marker per system, fonts, caption, formats."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from textwrap import fill

import matplotlib.pyplot as plt
import msgspec
import pandas as pd
import seaborn as sns

from paella.files import replacing
from paella.results import read_summary

plt.switch_backend("agg")

WIDTH = 7.0  # inches: two columns of a paper
COLUMN = 3.35

MODELS = {
    "All": "All",
    "resnet18": "ResNet-18",
    "resnet34": "ResNet-34",
    "resnet50": "ResNet-50",
    "mobilenet_v2": "MobileNetV2",
    "squeezenet1_1": "SqueezeNet1.1",
    "densenet121": "DenseNet",
    "googlenet": "GoogleNet",
    "inception_v3": "InceptionV3",
}

# Okabe and Ito's colours, black to CUDA-MS and the strongest to Paella, and three of Paul Tol's.
SYSTEMS = {
    "CUDA-SS": ("#B0B0B0", "s"),
    "CUDA-MS": ("#000000", "o"),
    "MPS": ("#CC79A7", "P"),
    "Triton": ("#E69F00", "^"),
    "Paella-SS": ("#56B4E9", "v"),
    "Paella-MS-jbj": ("#009E73", "D"),
    "Paella-MS-kbk": ("#0072B2", "X"),
    "Paella": ("#D55E00", "*"),
    "CUDA-Graphs": ("#7A4B1E", "h"),
    "Triton-Graphs": ("#DDCC77", "<"),
    "Paella-seg": ("#882255", "p"),
}
MORE_COLOURS = ("#999933", "#332288", "#AA4499", "#117733", "#44AA99")
MORE_MARKERS = (">", "1", "d", "8", "H")


@dataclass(frozen=True)
class Look:
    """A system's line. Ours are dashed with hollow markers, so that print keeps them apart."""

    colour: str
    marker: str
    ours: bool

    @property
    def line(self) -> dict:
        return {
            "color": self.colour,
            "marker": self.marker,
            "markersize": 4.6 if self.marker == "*" else 3.0,
            "markerfacecolor": "white" if self.ours else self.colour,
            "markeredgecolor": self.colour,
            "markeredgewidth": 0.7 if self.ours else 0.3,
            "linewidth": 1.0,
            "linestyle": (0, (4, 1.5)) if self.ours else "-",
        }


def looks(systems: dict[str, str]) -> dict[str, Look]:
    """Of every system, from name to origin, all that are configured in their order.

    A system that is not known here gets what is left, by its place among such systems.
    """
    left = zip(MORE_COLOURS * 4, [m for m in MORE_MARKERS for _ in range(4)], strict=True)
    return {
        name: Look(*(SYSTEMS[name] if name in SYSTEMS else next(left)), origin == "ours")
        for name, origin in systems.items()
    }


def label(model: str) -> str:
    return MODELS.get(model, model)


def set_theme() -> None:
    sns.set_theme(
        context="paper",
        style="ticks",
        font="DejaVu Sans",
        rc={
            "font.size": 7,
            "axes.titlesize": 7,
            "axes.labelsize": 7,
            "xtick.labelsize": 6,
            "ytick.labelsize": 6,
            "legend.fontsize": 6.5,
            "axes.linewidth": 0.6,
            "xtick.major.width": 0.6,
            "ytick.major.width": 0.6,
            "xtick.major.size": 2.5,
            "ytick.major.size": 2.5,
            "xtick.major.pad": 2,
            "ytick.major.pad": 2,
            "axes.titlepad": 3,
            "axes.grid": True,
            "grid.color": "0.9",
            "grid.linewidth": 0.5,
            "figure.dpi": 100,
            "savefig.dpi": 300,
            "pdf.fonttype": 42,  # text stays text
            "svg.fonttype": "path",
            "svg.hashsalt": "paella",  # the same ids every time
        },
    )


def provenance(summary) -> str:
    """Backend, device, how far to trust both, engine, jobs and seeds of the runs in a figure."""
    first = summary.iloc[0]
    kernels = {
        "measured": "kernel times measured on it",
        "partition": "part of the GPU that the kernel times were measured on",
        "extrapolated": "kernel times extrapolated",
    }[first.device_provenance]
    source = f"{first.device_label}, {first.backend}"
    if first.backend == "sim":
        source = f"Simulated {first.device_label}: {kernels} (profile {first.profile})"
    elif "gpu" in summary:
        dates = " and ".join(sorted(summary.date.unique()))
        source = f"{first.device_label}, measured on {first.gpu}, driver {first.driver}, {dates}"
    jobs = summary.loc[summary.model == "All", "jobs"].max()
    seeds = sorted(summary.seed.unique())
    at_a_load = summary.groupby("iat_us").seed.nunique()
    parts = [
        f"paella {first.engine_version}",
        f"{jobs} jobs",
        f"seed {seeds[0]}" if len(seeds) == 1 else f"{span(at_a_load)} seeds",
    ]
    parts += [f"{system} modelled" for system in summary.system[summary.modelled].unique()]
    return " · ".join([source, *(part.replace(" ", "\N{NO-BREAK SPACE}") for part in parts)])


def span(values: pd.Series) -> str:
    low, high = (f"{end:.0f}" for end in (values.min(), values.max()))
    return low if low == high else f"{low} to {high}"


def caption(figure, *lines: str) -> None:
    """At the foot of the figure, so that it stays with it wherever it is pasted."""
    characters = int(23 * figure.get_figwidth())
    text = "\n".join(fill(line, characters) for line in lines if line)
    figure.supxlabel(text, x=0.005, ha="left", fontsize=5.5, color="0.35", linespacing=1.3)


def save(figure, outputs) -> None:
    """PDF, PNG and SVG without dates: the same figure gives the same bytes."""
    no_date = {".pdf": {"CreationDate": None}, ".svg": {"Date": None}, ".png": {}}
    for path in map(Path, outputs):
        with replacing(path) as temporary:
            figure.savefig(temporary, format=path.suffix[1:], metadata=no_date[path.suffix])
    plt.close(figure)


def read_imported(paths, mix: str, sigma: float) -> pd.DataFrame | None:
    """Results of the published artifact for one mix and sigma; None if there are none."""
    rows = [msgspec.to_builtins(row) for path in paths for row in read_summary(path)]
    rows = [row for row in rows if row["mix"] == mix and row["sigma"] == sigma]
    return pd.DataFrame(rows) if rows else None
