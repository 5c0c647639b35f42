"""Figures over studies: what is drawn where, of runs whose every number is known."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from made_runs import make
from matplotlib.collections import FillBetweenPolyCollection
from matplotlib.image import AxesImage
from PIL import Image

import limen
from limen.cli.main import main
from limen.errors import InputError
from limen.plots.study import mean_and_spread, over


def made(root: Path, lrs=(0.1, 0.2, 0.4), widths=(16,), seeds=3) -> Path:
    """Sharpness / threshold ends at min(1, 4 lr) + (seed - 1)/100; the loss at lr / width."""
    for lr in lrs:
        for width in widths:
            for seed in range(seeds):
                end = min(1.0, 4 * lr) + (seed - 1) / 100
                tops = [0.2, *([1.1] if 4 * lr >= 1 else [0.3]), 0.5, end]
                losses = (1 + seed / 10) * lr / width * 2.0 ** np.arange(7, -1, -1)
                make(
                    root / f"{width}" / f"{seed}" / f"{lr}",
                    losses.tolist(),
                    tops,
                    every=2,
                    lr=lr,
                    seed=seed,
                    model={"width": width},
                )
    return root


def points(panel) -> dict[float, tuple[float, float]]:
    """Mean and half the length of the error bar at each abscissa."""
    found = {}
    for container in panel.containers:
        line, _, (bars,) = container
        for (x, y), bar in zip(zip(*line.get_data(), strict=True), bars.get_segments(), strict=True):
            found[float(x)] = (float(y), float(bar[1, 1] - bar[0, 1]) / 2)
    return found


def test_the_edge_as_a_picture(tmp_path):
    (panel,) = over(limen.open_runs(made(tmp_path)), ["lr"]).axes
    found = points(panel)
    assert list(found) == [0.1, 0.2, 0.4]
    for lr, (mean, spread) in found.items():
        assert mean == pytest.approx(min(1, 4 * lr), rel=1e-12)
        assert spread == pytest.approx(0.01, rel=1e-9)  # of -0.01, 0, 0.01 over n - 1
    hollow = [line for line in panel.get_lines() if line.get_markerfacecolor() == "white"]
    assert [line.get_xdata().tolist() for line in hollow if len(line.get_xdata())] == [[0.1, 0.2]]
    assert 1.0 in {line.get_ydata()[0] for line in panel.get_lines() if line.get_linestyle() == ":"}
    assert (panel.get_xlabel(), panel.get_ylabel()) == ("lr", "sharpness / threshold")


def test_other_words_are_colours(tmp_path):
    figure = over(limen.open_runs(made(tmp_path, widths=(16, 32))), ["lr"])
    assert len(figure.axes[0].containers) == 2
    names = [text.get_text() for text in figure.legends[0].get_texts()]
    assert {"model.width=16", "model.width=32", "± std, 3 seeds"} <= set(names)


def test_another_quantity(tmp_path):
    root = made(tmp_path, lrs=(0.01, 0.1, 1.0), seeds=1)
    runs = limen.open_runs(root, also=["train_loss*16"])
    (panel,) = over(runs, ["lr"], quantity="train_loss*16").axes
    assert [mean for mean, _ in points(panel).values()] == pytest.approx([0.01, 0.1, 1.0], rel=1e-12)
    assert (panel.get_xscale(), panel.get_yscale()) == ("log", "log")


def test_diverged_runs_are_marked_and_enter_no_mean(tmp_path):
    root = made(tmp_path)
    make(root / "lost", [1, float("inf")], [1e9], lr=0.4, seed=3, status="diverged", model={"width": 16})
    make(root / "lost2", [1, float("inf")], [1e9], lr=0.8, seed=3, status="diverged", model={"width": 16})
    figure = over(limen.open_runs(root), ["lr"])
    found = points(figure.axes[0])
    assert list(found) == [0.1, 0.2, 0.4]
    assert found[0.4][0] == pytest.approx(1.0, rel=1e-12)
    (crosses,) = (line for line in figure.axes[0].get_lines() if line.get_marker() == "x")
    assert crosses.get_xdata().tolist() == [0.4, 0.8]


@pytest.mark.parametrize("status", ["interrupted", "failed", "running"])
def test_runs_that_are_not_over_enter_no_mean_and_are_counted(tmp_path, status):
    root = made(tmp_path)
    whole = [over(limen.open_runs(root), [word]) for word in ("lr", "seed")]
    for seed in (3, 4):
        make(root / f"{seed}", [1e3, 1e3], [9.0], lr=0.4, seed=seed, status=status, model={"width": 16})
    edge, curves = (over(limen.open_runs(root), [word]) for word in ("lr", "seed"))
    assert points(edge.axes[0]) == points(whole[0].axes[0])
    lines = zip(curves.axes[0].get_lines(), whole[1].axes[0].get_lines(), strict=True)
    assert all(np.array_equal(a.get_ydata(), b.get_ydata()) for a, b in lines)
    for figure in (edge, curves):
        assert figure.get_suptitle().endswith("2 of 11 runs left out: not finished")
    with pytest.raises(InputError, match="none of these 2 runs has finished or diverged"):
        over(limen.open_runs(root, "seed > 2"), ["lr"])


def test_a_heat_map_has_means_in_its_cells(tmp_path):
    root = made(tmp_path, widths=(16, 32))
    figure = over(limen.open_runs(root, "not (lr = 0.4 and model.width = 32)"), ["lr", "model.width"])
    panel = figure.axes[0]
    (image,) = (child for child in panel.get_children() if isinstance(child, AxesImage))
    np.testing.assert_allclose(
        image.get_array().filled(np.nan), [[0.4, 0.8, 1.0], [0.4, 0.8, np.nan]], rtol=1e-12
    )
    assert [label.get_text() for label in panel.get_xticklabels()] == ["0.1", "0.2", "0.4"]
    assert [label.get_text() for label in panel.get_yticklabels()] == ["16", "32"]
    assert image.norm(1.0) == 0.5  # white at the edge


def test_a_heat_map_of_more_than_two_words_is_refused(tmp_path):
    root = made(tmp_path, widths=(16, 32))
    make(root / "other", lr=0.1, loss="ce", model={"width": 16})
    with pytest.raises(InputError, match=r"also differ in loss.*--where \"loss == '"):
        over(limen.open_runs(root), ["lr", "model.width"])


def test_replicates_are_a_mean_and_a_band(tmp_path):
    runs = limen.open_runs(made(tmp_path, lrs=(0.2,)))
    loss, sharpness = over(runs, ["seed"]).axes
    curve = loss.get_lines()[0].get_ydata()
    np.testing.assert_allclose(curve, 1.1 * 0.2 / 16 * 2.0 ** np.arange(7, -1, -1), rtol=1e-12)
    (band,) = (child for child in loss.get_children() if isinstance(child, FillBetweenPolyCollection))
    heights = band.get_paths()[0].vertices[:, 1]
    assert heights.max() == pytest.approx((1.1 + 0.1) * 0.2 / 16 * 128, rel=1e-12)
    assert heights.min() == pytest.approx((1.1 - 0.1) * 0.2 / 16, rel=1e-12)
    np.testing.assert_allclose(sharpness.get_lines()[0].get_ydata(), [0.2, 0.3, 0.5, 0.8], rtol=1e-12)
    assert sharpness.get_lines()[0].get_xdata().tolist() == [0, 2, 4, 6]
    time = over(runs, ["seed"], x="time").axes[-1]
    np.testing.assert_allclose(time.get_lines()[0].get_xdata(), [0, 0.4, 0.8, 1.2], rtol=1e-12)


def test_a_band_ends_with_its_first_replicate(tmp_path):
    make(tmp_path / "a", [8, 4, 2, 1], seed=0)
    make(tmp_path / "b", [4, 2], seed=1)
    make(tmp_path / "c", [1, float("inf")], seed=2, status="diverged")
    figure = over(limen.open_runs(tmp_path), ["seed"])
    assert figure.axes[0].get_lines()[0].get_ydata().tolist() == [6, 3]
    assert "2 seeds, 1 diverged" in [text.get_text() for text in figure.legends[0].get_texts()]


def test_a_setting_of_which_nothing_is_left_is_in_the_legend(tmp_path):
    make(tmp_path / "a", [8, 4, 2, 1], lr=0.1)
    make(tmp_path / "b", [1, float("inf")], lr=9.0, status="diverged")
    figure = over(limen.open_runs(tmp_path), ["lr", "seed"])
    texts = [text.get_text() for text in figure.legends[0].get_texts()]
    assert "lr=9: 0 seeds, 1 diverged" in texts
    assert len(figure.axes[0].get_lines()) == 1


def test_mean_and_spread_by_hand():
    assert mean_and_spread([2.0]) == (2.0, 0.0)
    assert mean_and_spread([1.0, 2.0, 3.0]) == (2.0, 1.0)


@pytest.mark.parametrize("words", ["lr", "lr,model.width", "seed", "lr,seed"])
def test_the_command_writes_the_figure_the_same_each_time(tmp_path, capsys, words):
    root = made(tmp_path / "r", widths=(16, 32), seeds=2)
    pictures = []
    for _ in range(2):
        assert main(["plot", str(root), "--over", words]) == 0
        path = Path(capsys.readouterr().out.strip())
        pictures.append(path.read_bytes())
    assert path == root / f"over_{words.replace(',', '_')}.png"
    assert pictures[0] == pictures[1]
    assert np.asarray(Image.open(path).convert("L")).std() > 5  # not blank


@pytest.mark.parametrize(
    ("words", "fragment"),
    [
        (["--over", "learning"], "no word 'learning'"),
        (["--over", "lr,model.width,loss"], "expected one word, two, or seed"),
        (["--over", "lr,lr"], "expected one word, two, or seed"),
        (["--over", "lr", "--quantity", "trainloss"], "Did you mean 'train_loss'"),
        (
            ["--over", "lr", "--quantity", "crossing"],
            "none of these 1 runs has finished with a finite 'crossing'",
        ),
        (["--over", "lr", "--where", "lr > 5"], "no run that fits 'lr > 5'"),
        (["--over", "lr", "--x", "time"], "--x step or time with seed alone"),
        (["--over", "seed", "--quantity", "lr"], "other than seed"),
        (["--quantity", "lr"], "it goes with --over"),
        (["--over", "lr", "-o", "x.doc"], ".png, .pdf or .svg"),
    ],
)
def test_refusals(tmp_path, capsys, words, fragment):
    make(tmp_path / "a", tops=[0.5], model={"width": 3})
    assert main(["plot", str(tmp_path), *words]) == 2
    assert fragment in capsys.readouterr().err


def test_no_sharpness_says_how_to_measure_it(tmp_path, capsys):
    make(tmp_path / "a")
    assert main(["plot", str(tmp_path), "--over", "lr"]) == 2
    assert "--neigs 1 --eig_freq 10" in capsys.readouterr().err


def test_runs_of_training_are_told_their_own_words(tmp_path, capsys):
    for lr in (0.1, 0.2):
        words = {"command": "train", "optimizer": {"sgd": {"lr": lr}}, "lr": lr}
        make(tmp_path / f"{lr}", **words)
    for path in tmp_path.glob("*/run.json"):
        about = json.loads(path.read_text())
        del about["spec"]["lr"]
        path.write_text(json.dumps(about))
    assert main(["plot", str(tmp_path), "--over", "lr"]) == 2
    assert (
        "no word 'lr' in the specs of these runs. Did you mean 'optimizer.sgd.lr'?" in capsys.readouterr().err
    )
    assert main(["plot", str(tmp_path), "--over", "optimizer.sgd.lr"]) == 2
    err = capsys.readouterr().err
    assert "--quantity train_loss" in err
    assert "--neigs" not in err
    words = ["--over", "optimizer.sgd.lr", "--quantity", "train_loss"]
    assert main(["plot", str(tmp_path), *words]) == 0
