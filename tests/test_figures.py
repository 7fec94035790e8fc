"""The figures: panels, axes, one look per system, legible without colour, fonts embedded."""

import itertools
import re
import sys
import zlib
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_rgb

from paella.config import Config
from paella.reading import read_yaml

sys.path.append(str(Path(__file__).parents[1] / "workflow" / "scripts"))

import compare_with_measured as comparison
import plot_fairness
import plot_latency
import style
import write_evaluation

pytestmark = pytest.mark.no_engine

ROOT = Path(__file__).parents[1]
EXPERIMENTS = read_yaml(ROOT / "config" / "experiments.yaml")["experiments"]
CONFIG = Config(ROOT / "config")
ORIGINS = {name: CONFIG.system(name).origin for name in CONFIG.systems()}
ABOUT = {
    "backend": "sim",
    "device": "h100",
    "device_label": "H100",
    "device_provenance": "measured",
    "modelled": False,
    "engine_version": "1.2.3",
    "profile": "h100-v1",
}


def experiment(name):
    return {"y_limit_ms": None, "x_limit": None} | EXPERIMENTS[name]


def summary(name, seeds=(1,), **about):
    """A table as summarise_runs makes it, with made-up numbers."""
    wanted = EXPERIMENTS[name]
    models = ["All", *(m.model for m in CONFIG.mix(wanted["mix"]).models)]
    rows = []
    for system, iat, threshold, seed, model in itertools.product(
        wanted["systems"], (1000, 2000, 8000), wanted.get("thresholds", [None]), seeds, models
    ):
        rows.append(
            {
                "system": system,
                "sigma": 2.0,
                "iat_us": iat,
                "threshold": threshold,
                "seed": seed,
                "model": model,
                "jobs": {"All": 3000, "inception_v3": 31}.get(model, 400),
                "throughput_rps": 1e6 / iat,
                "mean_us": 1e4 + 1e3 * seed,
                "p99_us": 3e7 / iat + 1e3 * seed,
                "p99_low_us": 2e7 / iat,
                "p99_high_us": 4e7 / iat,
            }
        )
    table = pd.DataFrame(rows).assign(**ABOUT | about)
    table.loc[table.system == "Triton", "modelled"] = True
    return table


def draw(name, **arguments):
    return plot_latency.draw(summary(name, **arguments), experiment(name), ORIGINS)


def panels(figure):
    return [ax for ax in figure.axes if ax.get_title()]


def words(figure):
    return " ".join(figure._supxlabel.get_text().split())


@pytest.mark.parametrize(
    ("name", "titles"),
    [
        (
            "fig11",
            [
                *("ResNet-18", "MobileNetV2", "ResNet-34", "SqueezeNet1.1", "All"),
                *("ResNet-50", "DenseNet", "GoogleNet", "InceptionV3 (31 jobs)"),
            ],
        ),
        ("fig12", ["All", "ResNet-18", "InceptionV3 (31 jobs)"]),
    ],
)
def test_panels_are_the_papers_in_its_order(name, titles):
    figure = draw(name)
    assert [ax.get_title() for ax in panels(figure)] == titles
    for ax in panels(figure):
        assert ax.get_ylim() == (0, 75)
        assert ax.get_xlim()[0] == 0
        assert [line.get_label() for line in ax.lines] == EXPERIMENTS[name]["systems"]


def test_the_axes_are_throughput_and_p99_in_order_of_load():
    table = summary("fig12")
    line = panels(plot_latency.draw(table, experiment("fig12"), ORIGINS))[1].lines[0]
    assert line.get_xdata().tolist() == [125, 500, 1000]
    own = table[(table.system == "CUDA-SS") & (table.model == "resnet18")]
    assert line.get_ydata().tolist() == (own.p99_us[::-1] / 1e3).tolist()


def test_a_system_looks_the_same_in_every_figure():
    looks = {}
    for name in ("fig11", "fig12"):
        for ax in panels(draw(name)):
            for line in ax.lines:
                look = (line.get_color(), line.get_marker(), line.get_linestyle())
                assert looks.setdefault(line.get_label(), look) == look
    assert len(looks) == 10
    assert len({marker for _, marker, _ in looks.values()}) == 10
    fairness = plot_fairness.draw(summary("fig13"), experiment("fig13"))
    assert {line.get_color() for line in fairness.axes[0].lines} == {looks["Paella"][0]}


def test_the_legend_says_what_is_ours_and_what_is_modelled():
    (legend,) = [ax.get_legend() for ax in draw("fig11").axes if ax.get_legend()]
    texts = [text.get_text() for text in legend.get_texts()]
    assert texts[:3] == ["CUDA-SS", "CUDA-MS", "Triton (modelled)"]
    assert texts[-3:] == ["Paella", "CUDA-Graphs (ours)", "Paella-seg (ours)"]
    dashed = [h.get_linestyle() != "-" for h in legend.legend_handles]
    assert dashed == [name.endswith("(ours)") for name in texts]


# Machado, Oliveira and Fernandes 2009: how linear RGB looks to somebody without red cones,
# without green cones.
BLIND = {
    "protanopia": [[0.152, 1.053, -0.205], [0.115, 0.786, 0.099], [-0.004, -0.048, 1.052]],
    "deuteranopia": [[0.367, 0.861, -0.228], [0.280, 0.673, 0.047], [-0.012, 0.043, 0.969]],
    "none": np.eye(3),
}
TO_XYZ = [[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]


def lab(colour, blindness):
    rgb = np.array(to_rgb(colour))
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    seen = np.clip(np.array(BLIND[blindness]) @ linear, 0, 1)
    f = np.cbrt(np.maximum(np.array(TO_XYZ) @ seen / [0.9505, 1, 1.089], 0.0088))
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


@pytest.mark.parametrize("blindness", BLIND)
@pytest.mark.parametrize("name", ["fig11", "fig12"])
def test_colours_can_be_told_apart(name, blindness):
    looks = style.looks(ORIGINS)
    for a, b in itertools.combinations(EXPERIMENTS[name]["systems"], 2):
        seen = [lab(looks[s].colour, blindness) for s in (a, b)]
        assert np.linalg.norm(seen[0] - seen[1]) > 10, (a, b)


def test_a_new_system_gets_a_look_of_its_own_and_changes_no_other():
    more = style.looks({"Mine": "ours"} | ORIGINS | {"Another": "ours"})
    looks = style.looks(ORIGINS)
    assert {name: more[name] for name in looks} == looks
    assert len({(look.colour, look.marker) for look in more.values()}) == len(more)


def test_confidence_is_drawn_where_a_model_has_few_jobs():
    by_title = {ax.get_title(): ax for ax in panels(draw("fig12"))}
    assert not by_title["ResNet-18"].collections
    bands = by_title["InceptionV3 (31 jobs)"].collections
    assert len(bands) == len(EXPERIMENTS["fig12"]["systems"])
    low, high = bands[0].get_paths()[0].get_extents().intervaly
    assert (low, high) == (2e4 / 8000, 4e4 / 1000)


def test_with_several_seeds_every_panel_has_the_range_around_the_median():
    figure = draw("fig12", seeds=(1, 2, 5))
    for ax in panels(figure):
        assert len(ax.collections) == len(ax.lines)
        assert ax.lines[0].get_ydata()[-1] == 30 + 2
        low, high = ax.collections[0].get_paths()[0].get_extents().intervaly
        assert (low, high) == (3e4 / 8000 + 1, 30 + 5)
    assert "3 seeds" in words(figure)


def test_the_caption_says_backend_device_and_how_they_are_known():
    assert words(draw("fig11")) == (
        "Simulated H100: kernel times measured on it (profile h100-v1) · paella 1.2.3 · "
        "3000 jobs · seed 1 · Triton modelled "
        "Bands: 95 % confidence of p99 where jobs are few (InceptionV3)."
    )
    t4 = draw("fig12", device_label="T4", device_provenance="extrapolated")
    assert words(t4).startswith("Simulated T4: kernel times extrapolated (profile h100-v1) · ")
    part = draw("fig12", device_label="H100 (40 SMs)", device_provenance="partition")
    assert words(part).startswith("Simulated H100 (40 SMs): part of the GPU that ")
    real = draw("fig12", backend="cuda", gpu="GPU 0", driver="1.2", date="2026-01-02")
    assert words(real).startswith("H100, measured on GPU 0, driver 1.2, 2026-01-02 · ")


def test_fairness_is_two_means_over_the_reversed_threshold():
    measured = summary("fig13")
    measured.loc[measured.threshold > 500, "mean_us"] *= 2  # beyond the axis: said, not shown
    figure = plot_fairness.draw(measured, experiment("fig13"))
    (ax,) = figure.axes
    assert 11 < ax.get_ylim()[1] < 22
    assert "At 100,000, left of the axis: ResNet-18 22 ms and InceptionV3 22 ms." in words(figure)
    assert ax.get_xlim() == (500, 0)
    assert ax.get_xscale() == "linear"
    assert [line.get_label() for line in ax.lines] == ["ResNet-18", "InceptionV3"]
    assert ax.lines[0].get_xdata().tolist() == EXPERIMENTS["fig13"]["thresholds"]
    assert set(ax.lines[0].get_ydata()) == {11.0, 22.0}


def test_fairness_without_a_limit_is_over_decades():
    (ax,) = plot_fairness.draw(summary("fig13"), experiment("fig13") | {"x_limit": None}).axes
    left, right = ax.get_xlim()
    assert ax.get_xscale() == "log"
    assert left > max(EXPERIMENTS["fig13"]["thresholds"])
    assert 0 < right < min(EXPERIMENTS["fig13"]["thresholds"])


def test_results_of_the_original_lie_over_ours(tmp_path):
    from paella.results import Summary, write_summary

    row = dict.fromkeys(Summary.__struct_fields__) | {
        "source": "T4, original",
        "system": "Paella",
        "mix": "fig12",
        "sigma": 2.0,
        "iat_us": 1000.0,
        "model": "All",
        "throughput_rps": 400.0,
        "p99_us": 5e4,
    }
    write_summary(tmp_path / "theirs.parquet", [Summary(**row)])
    imported = style.read_imported([tmp_path / "theirs.parquet"], "fig12", 2.0)
    figure = plot_latency.draw(summary("fig12"), experiment("fig12"), ORIGINS, imported)
    points = [line.get_xydata().tolist() for line in panels(figure)[0].lines]
    assert [[400.0, 50.0]] in points
    (legend,) = [ax.get_legend() for ax in figure.axes if ax.get_legend()]
    assert legend.get_texts()[-1].get_text() == "T4, original"
    assert style.read_imported([tmp_path / "theirs.parquet"], "fig12", 1.5) is None

    row |= {"iat_us": 0.0, "threshold": 100.0, "model": "resnet18", "mean_us": 7e3}
    write_summary(tmp_path / "theirs.parquet", [Summary(**row)])
    imported = style.read_imported([tmp_path / "theirs.parquet"], "fig12", 2.0)
    (ax,) = plot_fairness.draw(summary("fig13"), experiment("fig13"), imported).axes
    lines = {line.get_label(): line.get_xydata().tolist() for line in ax.lines}
    assert lines["ResNet-18, T4, original"] == [[100.0, 7.0]]


def test_files_have_embedded_fonts_vectors_and_no_date(tmp_path):
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        outputs = [tmp_path / folder / f"fig.{kind}" for kind in ("pdf", "png", "svg")]
        style.save(draw("fig12"), outputs)
    for kind in ("pdf", "png", "svg"):
        contents = [(tmp_path / folder / f"fig.{kind}").read_bytes() for folder in ("one", "two")]
        assert contents[0] == contents[1], kind
    pdf = (tmp_path / "one" / "fig.pdf").read_bytes()
    streams = re.findall(rb"stream\r?\n(.*?)endstream", pdf, re.DOTALL)
    text = pdf + b"".join(inflate(stream) for stream in streams)
    assert b"/FontFile2" in text  # TrueType, whole, in the file
    assert b"/Type3" not in text
    assert b"/Subtype /Image" not in text
    assert b"/CreationDate" not in text
    assert b"<svg" in (tmp_path / "one" / "fig.svg").read_bytes()


def inflate(stream):
    try:
        return zlib.decompress(stream)
    except zlib.error:
        return b""


# ---- measured


def some_seeds(name):
    """Five seeds at one load of the sweep, one at the others."""
    table = summary(name, seeds=(1, 2, 3, 4, 5))
    return table[(table.seed == 1) | (table.iat_us == 2000)]


def test_lines_are_of_the_seeds_that_every_load_has():
    table = some_seeds("fig12")
    points = plot_latency.spread(table, "All")
    own = points[points.system == "CUDA-MS"].set_index("iat_us")
    one = table[(table.system == "CUDA-MS") & (table.model == "All") & (table.seed == 1)]
    assert own.p99_us.to_dict() == one.set_index("iat_us").p99_us.to_dict()
    assert own.seeds.to_dict() == {8000: 1, 2000: 5, 1000: 1}
    assert own.high_us[2000] - own.low_us[2000] == 4e3
    figure = plot_latency.draw(table, experiment("fig12"), ORIGINS)
    assert "bars: range over 5 seeds" in words(figure)
    assert "1 to 5 seeds" in words(figure)


def both_sides(name, factor):
    """Measured and simulated tables; simulated latencies are `factor` of the measured."""
    measured = some_seeds(name).assign(backend="cuda", p50_us=1e3, offered_rps=1e3)
    times = ["mean_us", "p50_us", "p99_us"]
    return measured, measured.assign(**{t: measured[t] * factor for t in times})


def test_errors_are_of_the_same_runs():
    measured, simulated = both_sides("fig12", 1.5)
    both = comparison.points(measured, simulated[simulated.iat_us != 1000])
    assert set(both.iat_us) == {2000, 8000}
    assert (both.mean_error.round(6) == 0.5).all()
    assert (both.throughput_error == 0).all()
    assert comparison.medians(both) == pytest.approx([0, 50, 50, 50])


def test_the_order_of_systems_is_judged_where_measured_intervals_are_apart():
    measured, _ = both_sides("fig12", 1)
    p99 = {"CUDA-MS": 10e3, "Paella": 20e3, "MPS": 21e3}
    measured = measured[measured.system.isin(p99) & (measured.seed == 1)]
    middle = measured.system.map(p99)
    measured = measured.assign(p99_us=middle, p99_low_us=middle - 2e3, p99_high_us=middle + 2e3)
    reversed_ = measured.assign(p99_us=1e9 / measured.p99_us)
    assert comparison.ranking(comparison.points(measured, measured)) == (6, 6)
    assert comparison.ranking(comparison.points(measured, reversed_)) == (6, 0)


@pytest.mark.parametrize(("date", "shown"), [("2026-01-02", ["h100"]), ("2026-01-01", [])])
def test_what_was_written_of_other_results_is_not_shown(tmp_path, date, shown):
    about = tmp_path / "h100" / "about.yaml"
    about.parent.mkdir()
    about.write_text(f'date: "{date}"\n')
    results = {"h100": {"fig12": summary("fig12", date="2026-01-02")}}
    assert list(write_evaluation.present([about], results)) == shown


def test_errors_that_nothing_was_fitted_to_are_all_counted():
    measured, simulated = both_sides("fig12", 1.5)
    tables = {"h100": {"fig12": comparison.points(measured, simulated)}}
    (all_of_it, rest) = write_evaluation.errors(tables, {})
    assert all_of_it[2:] == rest[2:]
    assert all_of_it[:2] == ("h100", "fig12, sigma 2")
    (noted, rest) = write_evaluation.errors(tables, {"h100": {"fitted_sigma": 2.0}})
    assert noted[1] == "fig12, sigma 2, fitted to"
    assert rest[2] == 0


def test_a_sweep_of_thresholds_is_one_of_a_system():
    assert comparison.sweeps_thresholds(summary("fig13"))
    table = summary("fig12")
    table.loc[table.system == "Paella", "threshold"] = 1e6  # what it is configured with
    assert not comparison.sweeps_thresholds(table)
