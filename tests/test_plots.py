"""Figures: what is drawn, where, and what is refused. The runs are made up, so that every place is known."""

from __future__ import annotations

import dataclasses
import itertools
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pytest
import torch
from fake_runs import FakeRun, Recorded
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.text import Text

from limen import analysis
from limen.dynamics.gd import GD
from limen.errors import InputError, StoreError
from limen.objectives import Quadratic
from limen.plots import curves, departure
from limen.plots.labels import labels, title
from limen.plots.stack import finish, stack
from limen.plots.style import COLOURS, palette
from limen.plots.thin import thin
from limen.probes import Eigs, Train
from limen.run import Experiment
from limen.store import record
from limen.types import Schedule

SERIES = ("steps", "t", "distance", "low", "high", "displacement", "loss_gap", "rounding", "outputs")
"""Fields of `Apart` that have one value a common time."""

MAGIC = {"png": b"\x89PNG", "pdf": b"%PDF", "svg": b"<?xml"}


def spec(lr: float = 0.1, **more: Any) -> dict[str, Any]:
    return {"dataset": "digits", "arch": "fc-tanh", "loss": "mse", "opt": "gd", "lr": lr, "seed": 0, **more}


def run(lr=0.1, n=1000, every=10, crossing=400, accuracy=True, k=2, **more) -> FakeRun:
    """Loss falls from 1 to 0.01; the top eigenvalue rises to 2/lr, passes it at `crossing`, and swings."""
    steps, measured = np.arange(n), np.arange(0, n, every)
    top = 2 / lr * np.minimum(measured / crossing, 1)
    top[measured >= crossing] *= 1 + 0.05 * np.cos(np.pi * np.arange((measured >= crossing).sum()))
    eigs = np.stack([top * 0.8**i for i in range(k)], axis=1)
    scalars = {"train_loss": 0.01 ** (steps / n), "test_loss": 0.02 ** (steps / n)}
    if accuracy:
        scalars |= {"train_acc": steps / n, "test_acc": 0.9 * steps / n}
    records = {name: Recorded(steps, lr * steps, values) for name, values in scalars.items()}
    records["eigs"] = Recorded(measured, lr * measured, eigs)
    return FakeRun(records, **{"spec": spec(lr), "threshold": 2 / lr, **more})


def diverged(lr=0.1, n=100) -> FakeRun:
    made = run(lr, n, crossing=50, status="diverged")
    made.records["train_loss"].values[-10:] = [*np.logspace(1, 30, 9), np.inf]
    made.records["eigs"].values[-1] = [1e12, np.nan]
    return made


def by_label(figure: Figure) -> dict[str, Any]:
    return {axes.get_ylabel(): axes for axes in figure.axes}


def texts(figure: Figure) -> list[Text]:
    """All text that is drawn and not empty, tick labels too."""
    return [text for text in figure.findobj(Text) if text.get_visible() and text.get_text().strip()]


def drawn(figure: Figure) -> set[str]:
    return {text.get_text() for text in texts(figure)}


def vertical(axes: Any) -> list[tuple[float, str]]:
    """Place and colour of the lines from bottom to top."""
    lines = [line for line in axes.get_lines() if np.array_equal(line.get_ydata(), [0, 1])]
    return [(float(line.get_xdata()[0]), to_hex(line.get_color())) for line in lines]


def horizontal(axes: Any) -> list[tuple[float, str, str]]:
    """Height, style and colour of the lines from side to side."""
    lines = [line for line in axes.get_lines() if np.array_equal(line.get_xdata(), [0, 1])]
    return [(float(x.get_ydata()[0]), x.get_linestyle(), to_hex(x.get_color())) for x in lines]


def flow(tick=1.0, n=100, nproj=50, **more) -> FakeRun:
    """The flow of `run()`: the same loss in time, eigenvalues that go on rising, weights that move along one line."""
    ticks = np.arange(n)
    t = tick * ticks
    records = {
        "train_loss": Recorded(ticks, t, 0.01 ** (t / 100)),
        "train_acc": Recorded(ticks, t, t / 100),
        "eigs": Recorded(ticks, t, (t / 2)[:, None] * [1, 0.8]),
        "iterates": Recorded(ticks, t, t[:, None] * np.ones(nproj)),
    }
    words = {key: value for key, value in spec(nproj=nproj).items() if key not in ("opt", "lr")}
    words |= {"command": "flow", "tick": tick, "max_time": n * tick, "rtol": 1e-5, "beta": None}
    return FakeRun(records, {**words, **more}, folder=Path("results/flow"))


def with_iterates(made: FakeRun, nproj=50) -> FakeRun:
    """Descent that leaves the line of the flow at its crossing."""
    steps, lr = np.arange(0, 1000, 10), made.spec["lr"]
    away = 1e-3 + np.maximum(lr * steps - 40, 0)
    rows = (lr * steps)[:, None] * np.ones(nproj) + away[:, None] * (steps > 0)[:, None]
    made.records["iterates"] = Recorded(steps, lr * steps, rows)
    made.spec["nproj"] = nproj
    return made


def tracked(made: FakeRun) -> FakeRun:
    """The same with the flow beside it."""
    steps, lr = np.arange(0, 1000, 10), made.spec["lr"]
    t = lr * steps
    columns = {
        "distance": 1e-3 * steps,
        "relative": np.full(100, 0.01),
        "loss_gap": 1e-5 * steps,
        "outputs_distance": 1e-4 * steps,
        "train_loss": 0.01 ** (t / 100),
    }
    made.records |= {f"flow/{name}": Recorded(steps, t, values) for name, values in columns.items()}
    return made


def test_panels_have_what_was_recorded():
    panels = by_label(curves([run()]))
    assert list(panels) == ["loss", "accuracy", "Hessian eigenvalues"]
    assert panels["loss"].get_yscale() == "log"
    assert panels["accuracy"].get_yscale() == "linear"
    train, test = panels["accuracy"].get_lines()[:2]
    np.testing.assert_array_equal(train.get_ydata(), np.arange(1000) / 1000)
    np.testing.assert_array_equal(test.get_ydata(), 0.9 * np.arange(1000) / 1000)
    assert (train.get_linestyle(), test.get_linestyle()) == ("-", "--")


def test_missing_pieces_drop_their_panel():
    regression = run(accuracy=False)
    assert list(by_label(curves([regression]))) == ["loss", "Hessian eigenvalues"]
    del regression.records["eigs"]
    assert list(by_label(curves([regression]))) == ["loss"]
    one = run(k=1)
    one.records["train_acc"].values[:] = one.records["test_acc"].values[:] = np.nan
    assert list(by_label(curves([one]))) == ["loss", "sharpness"]


def test_loss_is_logarithmic_beyond_a_decade_only():
    near = run()
    for name in ("train_loss", "test_loss"):
        near.records[name].values[:] = np.linspace(1, 0.11, 1000)
    assert by_label(curves([near]))["loss"].get_yscale() == "linear"


@pytest.mark.parametrize(("x", "place"), [("step", 400.0), ("time", 40.0)])
def test_threshold_is_dotted_and_its_crossing_marked_in_all_panels(x, place):
    figure = curves([run(lr=0.1, crossing=400)], x=x)
    assert horizontal(by_label(figure)["Hessian eigenvalues"]) == [(20.0, ":", COLOURS[0])]
    for axes in figure.axes:
        assert vertical(axes) == [(pytest.approx(place), COLOURS[0])]
    assert {"step 400", "20", "threshold 2/lr", "time (lr × steps)" if x == "time" else "step"} <= drawn(
        figure
    )


def test_a_run_that_never_crosses_has_no_mark():
    calm = run(threshold=100.0)
    figure = curves([calm])
    assert [vertical(axes) for axes in figure.axes] == [[], [], []]
    assert "crossing" not in drawn(figure)


def test_a_threshold_far_above_is_written_and_does_not_flatten_the_curves():
    figure = curves([run(threshold=20_000.0)])
    panel = by_label(figure)["Hessian eigenvalues"]
    assert horizontal(panel) == []
    assert panel.get_ylim()[1] < 25
    assert "↑2e+04" in drawn(figure)


def test_overlaid_runs_have_their_own_colour_and_say_what_differs():
    runs = [run(lr, crossing=c) for lr, c in [(0.1, 300), (0.2, 500)]]
    runs[1].spec["max_steps"] = 7  # how long one looks tells nothing about where a run goes
    figure = curves(runs)
    assert horizontal(by_label(figure)["Hessian eigenvalues"]) == [
        (20, ":", COLOURS[0]),
        (10, ":", COLOURS[1]),
    ]
    assert vertical(figure.axes[0]) == [(300, COLOURS[0]), (500, COLOURS[1])]
    legend = [text.get_text() for text in figure.legends[0].get_texts() if text.get_text()]
    assert sorted(legend) == sorted(["lr=0.1", "lr=0.2", "train", "test", "threshold 2/lr", "crossing"])
    assert figure.get_suptitle() == "digits, fc-tanh, mse, gd, seed 0"


def test_labels_fall_back_to_what_tells_runs_apart():
    same = [run(folder=Path(f"r/{name}/seed_0")) for name in ("one", "two")]
    assert labels(same) == ["one/seed_0", "two/seed_0"]
    assert labels([run(folder=Path("r/x")), run(folder=Path("r/x"))]) == ["x", "x"]
    assert labels([run(spec=spec(max_steps=5)), run(spec=spec(max_steps=6))]) == [
        "max_steps=5",
        "max_steps=6",
    ]
    assert labels([run(spec=spec(model={"width": 3})), run(spec=spec(arch="cnn", model={"width": 4}))]) == [
        "fc-tanh, model.width=3",
        "cnn, model.width=4",
    ]
    assert title([run(spec={}), run()]) == ""


def test_many_runs_keep_distinct_colours():
    assert len({*palette(20)}) == 20
    figure = curves([run(n=20, crossing=10, folder=Path(f"r/{i}")) for i in range(9)])
    assert len({to_hex(line.get_color()) for line in figure.axes[1].get_lines()}) == 9


def test_a_diverged_run_does_not_flatten_the_others():
    figure = curves([diverged(0.1), run(0.2, n=100, crossing=50)])
    panels = by_label(figure)
    assert panels["loss"].get_ylim()[1] == pytest.approx(2.0)  # twice the loss at the start
    assert panels["Hessian eigenvalues"].get_ylim()[1] == pytest.approx(40.0)  # twice the greater threshold
    assert "lr=0.1 (diverged)" in drawn(figure)
    assert curves([diverged()]).get_suptitle().endswith("(diverged)")
    assert len(figure.axes[0].get_lines()[0].get_ydata()) == 99  # the infinite loss is left out


@pytest.mark.parametrize("x", [None, "time", "sharpness"])
def test_descent_and_flow_share_the_clock_of_time_unless_told(x):
    figure = curves([run(lr=0.1), flow()], x=x)
    panel = by_label(figure)["loss"]
    descent, _, gradient_flow = panel.get_lines()[:3]
    ends = {"time": (99.9, 99), "sharpness": (None, 99**2 / 4)}[x or "time"]
    if ends[0] is not None:
        assert descent.get_xdata()[-1] == pytest.approx(ends[0])
    assert gradient_flow.get_xdata()[-1] == pytest.approx(ends[1])
    expected = {"sharpness": "∫S dt"}
    assert figure.axes[-1].get_xlabel() == expected.get(x, "time (descent: lr × steps)")
    assert {"gd lr=0.1", "flow", "threshold 2/lr", "crossing"} <= drawn(figure)
    assert horizontal(by_label(figure)["Hessian eigenvalues"]) == [(20.0, ":", COLOURS[0])]
    assert len(vertical(panel)) == 1


def test_a_flow_alone_is_drawn_against_time_without_a_threshold():
    figure = curves([flow()])
    assert (figure.axes[-1].get_xlabel(), list(by_label(figure))[-1]) == ("time", "Hessian eigenvalues")
    assert horizontal(figure.axes[-1]) == []
    assert figure.get_suptitle() == "digits, fc-tanh, mse, flow, tick=1.0, seed 0"
    assert curves([flow()], x="step").axes[-1].get_xlabel() == "tick"


def test_on_the_clock_of_sharpness_the_threshold_is_crossed_where_its_integral_is():
    figure = curves([run(lr=0.1, crossing=400)], x="sharpness")
    (place, _), *_ = vertical(figure.axes[0])
    t = np.arange(0, 41)  # S = t/2 up to the crossing at 40, overshooting by 5 % in the last interval
    sharpness = t / 2
    sharpness[-1] *= 1.05
    assert place == pytest.approx(np.sum((sharpness[1:] + sharpness[:-1]) / 2))
    calm = run()
    del calm.records["eigs"]
    with pytest.raises(InputError, match="--neigs 1"):
        curves([calm], x="sharpness")


def test_distance_to_the_flow_has_a_panel_where_it_is_known():
    figure = curves([with_iterates(run(lr=0.1)), flow()])
    panel = by_label(figure)["distance to flow"]
    line = panel.get_lines()[0]
    np.testing.assert_allclose(line.get_xdata(), np.arange(1.0, 100))
    np.testing.assert_allclose(line.get_ydata()[[0, -1]], [1e-3, 1e-3 + 59], rtol=1e-9)
    assert panel.get_yscale() == "log"
    assert len(panel.collections) == 1  # the band
    assert "95 % band" in drawn(figure)
    assert "distance to flow" not in by_label(curves([with_iterates(run()), flow()], distance=False))
    assert "distance to flow" not in by_label(curves([run(), flow()]))
    with pytest.raises(InputError, match="no projected iterates"):
        curves([run(), flow()], distance=True)
    with pytest.raises(InputError, match="name a descent and its flow"):
        curves([run()], distance=True)


def test_a_flow_tracked_beside_a_run_joins_its_figure():
    figure = curves([tracked(run(lr=0.1))])
    assert {"gd lr=0.1", "flow"} <= drawn(figure)
    panel = by_label(figure)["distance to flow"]
    np.testing.assert_allclose(panel.get_lines()[0].get_ydata(), 1e-3 * np.arange(10, 1000, 10))
    assert len(panel.collections) == 0
    assert "95 % band" not in drawn(figure)
    assert list(by_label(curves([tracked(run()), flow()]))) == [
        *("loss", "accuracy", "Hessian eigenvalues", "distance to flow")
    ]


def test_ticks_of_a_flow_and_steps_of_descent_share_no_axis():
    with pytest.raises(InputError, match="--x time"):
        curves([run(), flow()], x="step")
    assert curves([flow(), flow(rtol=1e-3)], x="step").axes[-1].get_xlabel() == "tick"


def test_a_flow_beside_a_run_is_drawn_at_the_steps_of_the_run():
    figure = curves([tracked(run(lr=0.1))], x="step")
    assert figure.axes[-1].get_xlabel() == "step"
    *_, beside = (line for line in by_label(figure)["loss"].get_lines() if len(line.get_xdata()) == 100)
    np.testing.assert_array_equal(beside.get_xdata(), np.arange(0, 1000, 10))


def test_a_flow_without_eigenvalues_stays_out_of_the_clock_of_sharpness():
    made = tracked(run(lr=0.1))
    figure = curves([made], x="sharpness")
    assert "flow" not in drawn(figure)
    panel = by_label(figure)["distance to flow"]  # that of descent, on its own clock
    assert panel.get_lines()[0].get_xdata()[0] == pytest.approx(0.25)  # S = t/2 to t = 1
    made.records["flow/eigs"] = made.records["eigs"]
    assert "flow" in drawn(curves([made], x="sharpness"))


@pytest.mark.parametrize("opt", ["polyak", "nesterov"])
def test_momentum_has_no_distance_to_the_flow(opt):
    made = with_iterates(run(spec=spec(opt=opt, beta=0.9)))
    assert "distance to flow" not in by_label(curves([made, flow()]))
    assert "distance to flow" not in by_label(curves([tracked(run(spec=spec(opt=opt, beta=0.9)))]))
    with pytest.raises(InputError, match=r"lr/\(1 − beta\)"):
        curves([made, flow()], distance=True)


def far_off(every=1.0) -> FakeRun:
    """A run whose distance from its flow grows tenfold a measurement, from a thousand displacements on."""
    made = tracked(run(lr=0.1, status="diverged"))
    moved = np.linspace(0, 1, 100)
    distance = np.where(moved > 0, 1e3 * 10.0 ** (every * np.arange(100)), 0.0)
    made.records["flow/distance"].values[:] = distance
    made.records["flow/relative"].values[:] = np.divide(distance, moved, where=moved > 0, out=np.zeros(100))
    return made


@pytest.mark.parametrize("every", [1.0, 0.001])
def test_the_distance_of_a_diverged_run_is_seen(every):
    made = far_off(every)
    alone, beside = curves([made]).axes[-1], departure(analysis.recorded(made, "flow"), made).axes[0]
    assert [panel.get_yscale() for panel in (alone, beside)] == ["log" if every == 1 else "linear", "log"]
    for panel in (alone, beside):
        low, high = panel.get_ylim()
        line = next(line for line in panel.get_lines() if line.get_ydata()[0] >= 1e3)
        inside = [y for y in line.get_ydata() if low <= y <= high]
        assert len(inside) > 1
        assert high <= 1e5
        assert low > 1e-3  # a margin for what is seen, not for a hundred decades


def test_training_is_named_by_its_kinds_and_its_rate():
    words = [
        {
            "train_data": {"digits": {"sigma": noise}},
            "model": {"fc-relu": {}},
            "optimizer": {"sgd": {"lr": 0.1}},
        }
        for noise in (0.0, 0.4)
    ]
    runs = [run(spec=given | {"command": "train", "seed": 3}) for given in words]
    assert title(runs) == "digits, fc-relu, sgd, lr=0.1, seed 3"
    assert labels(runs) == ["train_data.digits.sigma=0.0", "train_data.digits.sigma=0.4"]


def test_a_crossing_beyond_the_axis_has_neither_line_nor_label():
    made = tracked(run(lr=0.1))
    late = analysis.recorded(made, "flow")
    early = dataclasses.replace(
        late, **{f.name: getattr(late, f.name)[:20] for f in dataclasses.fields(late) if f.name in SERIES}
    )
    figure = departure(early, made)
    assert vertical(figure.axes[0]) == []
    assert not {"step 400", "crossing"} & drawn(figure)
    assert {"step 400", "crossing"} <= drawn(departure(late, made))
    plain, axes = stack([1.0], 0)
    axes[0].plot([1.0, 2.0], [0.0, 1.0])
    marks = [(0.0, 0, "k"), (1.5, 3, "k"), (9.0, 5, "k"), (np.nan, 7, "k")]
    finish(plain, axes, abscissa="", integer=False, crossings=marks, heading="", legend=([], 0))
    assert {text for text in drawn(plain) if text.startswith("step")} == {"step 3"}


def test_a_crossing_at_the_start_is_marked_though_a_distance_of_zero_is_not_drawn():
    made = tracked(run(lr=0.1))
    made.records["eigs"].values[0] = 100.0
    figure = departure(analysis.recorded(made, "flow"), made)
    assert vertical(figure.axes[0]) == [(0.0, COLOURS[0])]
    low, _ = figure.axes[0].get_xlim()
    assert low < 0
    assert "step 0" in drawn(figure)


def test_the_band_is_seen_beside_its_curve_or_not_named():
    made = with_iterates(run(lr=0.1))
    estimated = analysis.projected(made, flow())
    shade = departure(estimated, made).axes[0].collections[0]
    line = departure(estimated, made).axes[0].get_lines()[-1]
    assert shade.get_linewidth()[0] > line.get_linewidth()
    sharp = dataclasses.replace(estimated, low=0.999 * estimated.distance, high=1.001 * estimated.distance)
    figure = departure(sharp, made)
    assert "95 % band" not in drawn(figure)
    assert len(figure.axes[0].collections) == 0


def test_thresholds_are_named_beside_their_panel():
    made = diverged(lr=0.1)
    made.records["eigs"].values[:] = np.array([[90.0, 80.0]]) * np.logspace(0, 12, 10)[:, None]
    many = [run(0.1, threshold=20_000.0 + i, folder=Path(f"r/{i}")) for i in range(9)]
    for figure, names in ((curves([made]), {"20"}), (curves(many), {"↑2e+04", "↑2.001e+04"})):
        labels = [text for text in by_label(figure)["Hessian eigenvalues"].texts if text.get_text() in names]
        assert labels
        assert all(0 <= label.get_position()[1] <= 1 for label in labels)


def test_labels_tell_descents_from_flows_and_flows_from_each_other():
    polyak = run(spec=spec(0.1, opt="polyak", beta=0.9))
    assert labels([run(0.1), polyak, flow()]) == ["gd lr=0.1", "polyak lr=0.1, beta=0.9", "flow"]
    assert labels([flow(), flow(rtol=1e-3)]) == ["rtol=1e-05", "rtol=0.001"]
    assert labels([run(), flow(), flow(tick=2.0, rtol=1e-3)]) == [
        "gd lr=0.1",
        "flow, rtol=1e-05",
        "flow, rtol=0.001",
    ]
    assert labels([flow(), flow(tick=2.0)]) == ["tick=1.0, max_time=100.0", "tick=2.0, max_time=200.0"]


def test_departure_shows_weights_outputs_and_loss():
    made = tracked(run(lr=0.1))
    figure = departure(analysis.recorded(made, "flow"), made)
    panels = by_label(figure)
    assert list(panels) == ["‖w − w'‖", "‖f − f'‖", "|L − L'|"]
    moved, apart = panels["‖w − w'‖"].get_lines()[:2]
    np.testing.assert_allclose(moved.get_ydata(), 100 * apart.get_ydata())
    assert vertical(figure.axes[0]) == [(pytest.approx(40.0), COLOURS[0])]
    assert {"step 400", "to the flow", "displacement of the flow"} <= drawn(figure)


def test_an_estimated_departure_has_its_band(tmp_path):
    made = with_iterates(run(lr=0.1))
    figure = departure(analysis.projected(made, flow()), made, tmp_path / "d.png")
    assert "95 % band" in drawn(figure)
    assert len(figure.axes[0].collections) == 1
    assert (tmp_path / "d.png").read_bytes().startswith(MAGIC["png"])
    with pytest.raises(InputError, match="no distance to draw"):
        departure(analysis.projected(flow(), flow()), made)


@pytest.mark.parametrize(
    "runs",
    [
        [run()],
        [diverged()],
        [flow()],
        [with_iterates(run()), flow()],
        [tracked(run())],
        [
            run(lr, n=200_000, every=50, crossing=100_000 + 3000 * i)
            for i, lr in enumerate([0.1, 0.105, 0.11])
        ],
        [run(0.1, spec=spec(0.1, model={"some_long_argument": i})) for i in range(8)],
        [run(n=1, every=1, crossing=5)],
    ],
    ids=["one", "diverged", "flow", "with flow", "tracked", "close", "many", "one step"],
)
def test_no_text_overlaps_and_none_is_cut_off(runs):
    check_texts(curves(runs))


@pytest.mark.parametrize("made", [tracked(run()), with_iterates(run())], ids=["exact", "estimated"])
def test_no_text_of_a_departure_overlaps_or_is_cut_off(made):
    exact = "flow/distance" in made.names()
    check_texts(departure(analysis.apart(made, None if exact else flow()), made))


def check_texts(figure: Figure) -> None:
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    canvas.draw()  # the layout settles
    renderer = canvas.get_renderer()
    hidden = out_of_view(figure)
    shown = [text for text in texts(figure) if text not in hidden]
    boxes = [(text.get_text(), text.get_window_extent(renderer).padded(-0.5)) for text in shown]
    for (one, a), (other, b) in itertools.combinations(boxes, 2):
        assert not a.overlaps(b), f"{one!r} overlaps {other!r}"
    for text, box in boxes:
        assert box.x0 >= 0, text
        assert box.y0 >= 0, text
        assert box.x1 <= figure.bbox.width, text
        assert box.y1 <= figure.bbox.height, text


def out_of_view(figure: Figure) -> set[Text]:
    """Labels of ticks beyond the limits of their axis, which matplotlib keeps but does not draw."""
    axises = [axis for axes in figure.axes for axis in (axes.xaxis, axes.yaxis)]
    ticks = [(axis, tick) for axis in axises for tick in [*axis.get_major_ticks(), *axis.get_minor_ticks()]]
    beyond = [tick for axis, tick in ticks if not inside(tick.get_loc(), axis.get_view_interval())]
    return {label for tick in beyond for label in (tick.label1, tick.label2)}


def inside(place: float, view: np.ndarray) -> bool:
    return bool(min(view) <= place <= max(view))


def test_thinning_keeps_ends_and_extremes():
    draw = np.random.default_rng(0)
    x, y = np.arange(100_003.0), draw.standard_normal(100_003)
    kept_x, kept_y = thin(x, y, bins=100)
    assert len(kept_x) <= 400
    assert (kept_x[0], kept_x[-1]) == (0, 100_002)
    assert (np.diff(kept_x) > 0).all()
    np.testing.assert_array_equal(kept_y, y[kept_x.astype(int)])
    edges = np.linspace(0, len(x), 101).astype(int)
    for a, b in itertools.pairwise(edges):
        inside = kept_y[(kept_x >= a) & (kept_x < b)]
        assert (inside.min(), inside.max()) == (y[a:b].min(), y[a:b].max())


def test_few_points_stay_as_they_are():
    x = np.arange(50.0)
    kept_x, kept_y = thin(x, x**2)
    np.testing.assert_array_equal(kept_x, x)
    np.testing.assert_array_equal(kept_y, x**2)


@pytest.mark.parametrize("suffix", ["png", "pdf", "svg", "PNG"])
def test_the_suffix_decides_the_format_and_folders_are_made(tmp_path, suffix):
    path = tmp_path / "new" / "folder" / f"figure.{suffix}"
    curves([run()], path)
    assert path.read_bytes().startswith(MAGIC[suffix.lower()])
    assert [p.name for p in path.parent.iterdir()] == [path.name]


@pytest.mark.parametrize("suffix", ["pdf", "svg"])
def test_a_long_run_makes_a_small_file(tmp_path, suffix):
    path = tmp_path / f"long.{suffix}"
    curves([run(n=100_000, every=2, crossing=40_000, k=6)], str(path))
    assert path.stat().st_size < 500_000


@pytest.mark.parametrize("suffix", sorted(MAGIC.keys()))
def test_the_same_records_give_the_same_bytes(tmp_path, suffix):
    one, two = tmp_path / f"one.{suffix}", tmp_path / f"two.{suffix}"
    curves([run()], one)
    curves([run()], two)
    assert one.read_bytes() == two.read_bytes()


@pytest.mark.parametrize("name", ["figure.jpeg", "figure", "figure.pn"])
def test_other_formats_are_refused_before_anything_is_read(tmp_path, name):
    with pytest.raises(InputError, match=r"expected a file name ending in \.png, \.pdf or \.svg, got"):
        curves([FakeRun({})], tmp_path / name)
    assert list(tmp_path.iterdir()) == []


def test_a_figure_that_cannot_be_written_says_so(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match=r"cannot write the figure .*a\.png.*Name a file in a folder"):
        curves([run()], tmp_path / "file" / "a.png")
    (tmp_path / "b.png").mkdir()
    with pytest.raises(StoreError, match=r"b\.png"):
        curves([run()], tmp_path / "b.png")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["b.png", "file"]


def test_a_failed_write_leaves_the_earlier_figure(tmp_path, monkeypatch):
    path = tmp_path / "figure.png"
    path.write_bytes(b"earlier")

    def full(self, file, **options):
        file.write(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Figure, "savefig", full)
    with pytest.raises(StoreError, match="No space left on device"):
        curves([run()], path)
    assert path.read_bytes() == b"earlier"
    assert list(tmp_path.iterdir()) == [path]


def test_nothing_to_draw_is_refused():
    with pytest.raises(InputError, match="name at least one"):
        curves([])
    with pytest.raises(InputError, match=r"found nothing \(status: running\)"):
        curves([run(), FakeRun({}, status="running")])
    with pytest.raises(InputError, match="found iterates"):
        curves([FakeRun({"iterates": run().records["eigs"]})])
    empty = Recorded(np.arange(0), np.arange(0.0), np.zeros(0))
    with pytest.raises(InputError, match="expected records of train_loss"):
        curves([FakeRun({"train_loss": empty})])
    with pytest.raises(InputError, match="'step', 'time' or 'sharpness', got 'epoch'"):
        curves([run()], x="epoch")  # type: ignore[arg-type]


@pytest.mark.parametrize(("lr", "ending"), [(0.5, "finished"), (1e30, "diverged")])
def test_a_stored_run_is_drawn(tmp_path, lr, ending):
    objective = Quadratic(torch.diag(torch.tensor([3.0, 1.0])), torch.ones(2))
    probes = [Train(), Eigs(2, schedule=Schedule(2))]
    stored = record(tmp_path / "run", Experiment(objective, GD(lr), 6, probes))
    assert stored.status == ending
    figure = curves([stored], tmp_path / "figure.svg")
    panels = by_label(figure)
    assert list(panels) == ["loss", "Hessian eigenvalues"]
    top = panels["Hessian eigenvalues"].get_lines()[1]  # the lower one is drawn first
    np.testing.assert_allclose(top.get_ydata(), 3.0, rtol=1e-3)
    assert vertical(figure.axes[0]) == ([] if lr == 0.5 else [(0.0, COLOURS[0])])


def test_a_user_s_settings_are_neither_read_nor_changed(tmp_path):
    curves([run()], tmp_path / "plain.svg")
    with matplotlib.rc_context({"lines.linewidth": 9.0, "font.size": 30.0, "axes.facecolor": "black"}):
        before = dict(matplotlib.rcParams)
        curves([run()], tmp_path / "theirs.svg")
        assert dict(matplotlib.rcParams) == before
    assert (tmp_path / "plain.svg").read_bytes() == (tmp_path / "theirs.svg").read_bytes()
