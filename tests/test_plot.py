"""Figures show what they are given: one colour scale, right orientation, right numbers in the labels."""

import io
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from opflow import plot
from pde_data.meshes import TriangleMesh


def vorticity(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape)


def drawn(figure):
    """Render for real: layout problems are warnings, and warnings are errors."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=50)
    assert buffer.getvalue()[:4] == b"\x89PNG"
    return [ax for ax in figure.axes if ax.get_label() != "<colorbar>"]


def image(ax):
    (only,) = ax.images
    return only


def test_truth_and_prediction_share_one_scale_and_the_error_has_its_own():
    y = vorticity(9, 14)
    p = 3 * y
    truth, prediction, error = map(image, drawn(plot.comparison(y, p)))
    bound = np.abs(y).max()
    assert truth.get_clim() == prediction.get_clim() == (-bound, bound)
    assert error.get_clim() == pytest.approx((-2 * bound, 2 * bound))
    assert truth.get_cmap().name != error.get_cmap().name


def test_the_first_space_axis_goes_right_and_the_second_up():
    y = np.zeros((8, 4))
    y[5, 1] = 1.0
    panel = image(drawn(plot.comparison(y, y, lengths=[2.0, 1.0]))[0])
    assert panel.origin == "lower"
    assert panel.get_extent() == [0, 2.0, 0, 1.0]
    assert np.argwhere(panel.get_array() == 1).tolist() == [[1, 5]]


def test_positive_fields_get_a_sequential_map_over_their_range():
    y = 1 + vorticity(6, 6) ** 2
    assert image(drawn(plot.comparison(y, y))[0]).get_clim() == (y.min(), y.max())
    assert image(plot.comparison(y, y).axes[0]).get_cmap().name == "viridis"


def test_one_row_per_channel_with_its_name_and_units():
    y = torch.ones(2, 5, 7)
    figure = plot.comparison(y, 0.75 * y, channel_names=["u", "v"], units="m/s")
    axes = drawn(figure)
    assert len(axes) == 6
    assert [ax.get_title() for ax in axes[2::3]] == ["error, 25 %"] * 2
    labels = [ax.get_ylabel() for ax in figure.axes if ax.get_label() == "<colorbar>"]
    assert labels == ["u [m/s]", "error [m/s]", "v [m/s]", "error [m/s]"]


def test_fields_in_one_dimension_become_curves():
    y = np.linspace(1, 2, 11)
    left, right = drawn(plot.comparison(y, 1.1 * y, lengths=3.0))
    assert [line.get_label() for line in left.lines] == ["truth", "prediction"]
    np.testing.assert_allclose(right.lines[0].get_ydata(), 0.1 * y)
    assert left.lines[0].get_xdata()[-1] == pytest.approx(3.0 * 10 / 11)


@pytest.mark.parametrize(
    "bad", [np.full((4, 4), 2.0), np.zeros((4, 4)), np.full((4, 4), np.nan)], ids=["constant", "zero", "nan"]
)
def test_degenerate_fields_are_drawn(bad):
    drawn(plot.comparison(bad, bad))


def test_strip_shows_times_and_errors_of_the_steps_it_draws():
    y = vorticity(10, 1, 6, 5)
    p = y * (1 + 0.01 * np.arange(10)).reshape(10, 1, 1, 1)
    axes = drawn(plot.rollout_strip(y, p, np.arange(10) / 2, columns=4, time_units="s"))
    assert [ax.get_title() for ax in axes[:4]] == [f"$t = {t:g}$ s" for t in (0, 1.5, 3, 4.5)]
    assert [ax.get_xlabel() for ax in axes[8:]] == [f"rel. error {e} %" for e in (0, 3, 6, 9)]
    np.testing.assert_allclose(image(axes[5]).get_array(), p[3, 0].T)
    assert len({image(ax).get_clim() for ax in axes[:8]}) == 1
    assert len({image(ax).get_clim() for ax in axes[8:]}) == 1


def test_gif_has_one_frame_per_step(tmp_path):
    from PIL import Image

    y = vorticity(3, 5, 6)
    figure = plot.animate(tmp_path / "film.gif", y, 2 * y, [1, 2, 3], time_units="s")
    assert figure.axes[0].get_title() == "truth, $t = 3$ s"
    assert figure.axes[2].get_title() == "error, 100 %"
    with Image.open(tmp_path / "film.gif") as film:
        assert film.n_frames == 3


def test_film_without_ffmpeg_or_of_another_kind(tmp_path, monkeypatch):
    from matplotlib.animation import FFMpegWriter

    y = vorticity(2, 4, 4)
    monkeypatch.setattr(FFMpegWriter, "isAvailable", lambda: False)
    with pytest.raises(
        RuntimeError, match=r"film.mp4: .mp4 needs the program ffmpeg; install it or write a .gif"
    ):
        plot.animate(tmp_path / "film.mp4", y, y, [1, 2])
    with pytest.raises(ValueError, match=r"film.avi: a film is written as .gif or .mp4"):
        plot.animate(tmp_path / "film.avi", y, y, [1, 2])
    assert not list(tmp_path.iterdir())


def test_spectra_leave_out_the_mean_and_average_samples():
    k = np.arange(5.0)
    shells = np.array([[9.0, 4, 3, 2, 1], [9.0, 2, 1, 0, 1]])
    (ax,) = drawn(plot.spectra(k, {"truth": shells[0], "both": shells}, length_units="m"))
    np.testing.assert_allclose(ax.lines[0].get_xdata(), k[1:])
    np.testing.assert_allclose(ax.lines[1].get_ydata(), [3, 2, 1, 1])
    assert ax.get_xlabel() == "wavenumber $k$ [rad/m]"


def test_losses_from_rows_of_metrics():
    rows = [
        {"epoch": 1, "train_loss": 0.5, "valid_l2": 0.4, "learning_rate": 1e-3, "seconds": 2.0},
        {"epoch": 2, "train_loss": 0.25, "valid_l2": None, "learning_rate": 5e-4},
        {"epoch": 3, "train_loss": 0.125, "valid_l2": 0.1, "learning_rate": 0.0},
    ]
    top, bottom = drawn(plot.losses(rows))
    curves = {line.get_label(): (list(line.get_xdata()), list(line.get_ydata())) for line in top.lines}
    assert curves == {"train loss": ([1, 2, 3], [0.5, 0.25, 0.125]), "valid l2": ([1, 3], [0.4, 0.1])}
    assert list(bottom.lines[0].get_ydata()) == [1e-3, 5e-4, 0.0]


def test_losses_draw_the_last_step_of_rollouts():
    rows = [{"epoch": n, "valid_rollout_l2": [0.1, 0.2 + n]} for n in (1, 2)]
    top, _ = drawn(plot.losses(rows))
    assert list(top.lines[0].get_ydata()) == [1.2, 2.2]


def test_error_growth_draws_the_median():
    (ax,) = drawn(
        plot.error_growth([1, 2], {"ours": [[0.1, 0.2], [0.3, 0.4], [0.2, 0.9]], "persistence": [1, 2]})
    )
    np.testing.assert_allclose(ax.lines[0].get_ydata(), [0.2, 0.4])
    np.testing.assert_allclose(ax.lines[1].get_ydata(), [1, 2])


y3, y2 = vorticity(3, 4, 4), vorticity(4, 4)
triangle = TriangleMesh(
    np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]]), np.array([[0, 1, 2]]), np.ones(3, int)
)
BAD = {
    "shapes": (lambda: plot.comparison(y2, y3), r"one shape, got \(4, 4\) and \(3, 4, 4\)"),
    "names": (lambda: plot.comparison(y3, y3, channel_names=["u"]), "with 1 channel names"),
    "3-D": (lambda: plot.comparison(y3[None], y3[None]), "a slice of a larger field"),
    "movie": (lambda: plot.rollout_strip(y2, y2, [1, 2]), r"\(step, x, y\), got shape \(4, 4\)"),
    "times": (lambda: plot.rollout_strip(y3, y3, [1, 2]), r"one entry per step \(3\), got 2"),
    "spectra": (lambda: plot.spectra([1, 2], {"FNO": [1.0]}), "'FNO' has 1 shells, there are 2"),
    "growth": (lambda: plot.error_growth([1, 2], {"FNO": [1.0]}), "'FNO' have 1 steps, there are 2"),
    "film": (
        lambda: plot.film("a.mp4", {"u": y3[None]}, ["0"]),
        r"a\.mp4: a film of samples is written as \.gif",
    ),
    "frames": (lambda: plot.film("a.gif", {"u": y3[None]}, ["0", "1"]), "a frame for each of 2 titles"),
    "nodes": (lambda: plot.mesh_grid(triangle, np.ones((2, 1, 4))), r"on a mesh of 3 nodes, got .*\(2, 4\)"),
    "losses": (lambda: plot.losses([{"epoch": 1}]), "no epoch with a train_ or valid_ number"),
}


def test_a_film_shows_its_frames_on_one_scale(tmp_path):
    from PIL import Image, ImageSequence

    frames = np.zeros((3, 4, 6, 6))
    frames[1], frames[2, 0] = 0.5, 1.0
    figure = plot.film(tmp_path / "a.gif", {"u": frames, "v": -frames}, ["first", "second", "third"])
    assert [image.get_clim() for ax in figure.axes for image in ax.images] == [(0.0, 1.0), (-1.0, 0.0)]
    with Image.open(tmp_path / "a.gif") as film:
        pages = [np.asarray(page.convert("L"), dtype=float) for page in ImageSequence.Iterator(film)]
    assert len(pages) == 3
    # All that is drawn lies in the middle of the scale, then a quarter of it at one end.
    assert np.abs(pages[0] - pages[1]).mean() > 5 and np.abs(pages[0] - pages[2]).mean() > 1


def test_figures_show_themselves_in_notebooks():
    figure: Any = plot.sample_grid(np.eye(4)[None])
    assert figure._repr_png_().startswith(b"\x89PNG")


@pytest.mark.parametrize("call, message", BAD.values(), ids=BAD)
def test_messages(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_no_global_state():
    code = """
import sys, numpy as np
from opflow import plot
assert "matplotlib" not in sys.modules, "imported before it is needed"
import matplotlib
before = matplotlib.rcParams.copy()
plot.comparison(np.eye(4), np.eye(4)).savefig(sys.argv[1])
assert matplotlib.rcParams.copy() == before
assert "matplotlib.pyplot" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code, "/dev/null"], check=True, cwd=Path(__file__).parents[1])
