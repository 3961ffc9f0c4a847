"""Pictures of data sets: every kind shows the values themselves, on one colour scale, in the right place."""

import numpy as np
import pytest
import xarray as xr
from matplotlib.figure import Figure
from PIL import Image

import pde_data
from pde_data import DatasetError
from pde_data.cli import main
from pde_data.domains import Domain
from pde_data.meshing import triangulate
from pde_data.plotting.fields import Field, Sphere
from pde_data.plotting.kinds import KINDS

GLOBE = {
    "lat": ("lat", [-60.0, -10.0, 20.0, 75.0], {"standard_name": "latitude", "units": "degrees_north"}),
    "lon": ("lon", np.arange(6) * 60.0, {"standard_name": "longitude", "units": "degrees_east"}),
}


def random(*shape):
    return np.random.default_rng(0).standard_normal(shape).astype(np.float32)


def over(*dims, sizes, **coordinates):
    """Data set of one random field `u`."""
    return xr.Dataset({"u": (dims, random(*sizes))}, coordinates)


def images(figure):
    return [axes.images[0] for axes in figure.axes if axes.images]


def test_a_line_over_time_becomes_a_diagram_of_place_and_time(tmp_path):
    source = over("sample", "time", "x", sizes=(3, 5, 16), time=[0.0, 1.0, 2.0, 4.0, 8.0])
    figure = pde_data.plot(source, sample=1, output=tmp_path / "u.png")
    (image,) = images(figure)
    np.testing.assert_array_equal(image.get_array(), source.u[1])
    assert image.origin == "lower" and image.get_extent() == [0, 1, -0.5, 4.5]
    assert [text.get_text() for text in image.axes.get_yticklabels()] == ["0", "1", "2", "4", "8"]
    assert -image.get_clim()[0] == image.get_clim()[1] == np.abs(source.u[1]).max()
    with Image.open(tmp_path / "u.png") as picture:
        assert picture.format == "PNG"


def test_a_line_without_time_is_a_curve():
    source = over("sample", "x", sizes=(2, 9))
    (line,) = pde_data.plot(source).axes[0].lines
    np.testing.assert_array_equal(line.get_ydata(), source.u[0])


def test_planes_share_a_scale_and_lie_the_right_way_round():
    source = over("sample", "time", "x", "y", sizes=(3, 4, 9, 12))
    figure = pde_data.plot(source, sample=1, frames=3)
    shown = images(figure)
    assert len({image.get_clim() for image in shown}) == 1 and shown[0].origin == "lower"
    for image, frame in zip(shown, (0, 2, 3)):
        np.testing.assert_array_equal(image.get_array(), source.u[1, frame].values.T)
    with pytest.raises(DatasetError, match="sample=7 is not there: .* has 3 samples"):
        pde_data.plot(source, sample=7)


def test_a_volume_is_three_slices_through_the_middle():
    source = over("sample", "time", "x", "y", "z", sizes=(1, 2, 6, 7, 8))
    first = [image.get_array() for image in images(pde_data.plot(source, frames=2))[1::2]]
    last = source.u.values[0, 1]
    for shown, expected in zip(first, (last[:, :, 4], last[:, 3], last[3]), strict=True):
        np.testing.assert_array_equal(shown, expected.T)


@pytest.mark.parametrize("order", [("lat", "lon"), ("lon", "lat")])
@pytest.mark.parametrize("shift", [0, 30, 50])
def test_a_sphere_is_a_map_whose_cells_are_where_their_points_are(order, shift):
    dataset = over("sample", "time", "lat", "lon", sizes=(2, 3, 4, 6), **GLOBE)
    dataset = dataset.assign_coords(lon=("lon", dataset.lon.values + shift, dataset.lon.attrs))
    figure = pde_data.plot(dataset.transpose("sample", "time", *order), sample=1, frames=3)
    panels = [axes for axes in figure.axes if axes.name == "mollweide"]
    assert len(panels) == 3
    (cells,) = panels[2].collections
    corners, values = np.rad2deg(cells.get_coordinates()), cells.get_array()
    assert corners[..., 0].min() == -180 and corners[..., 0].max() == 180
    assert corners[..., 1].min() == -90 and corners[..., 1].max() == 90
    for row, latitude in enumerate(dataset.lat.values):
        for column, longitude in enumerate(dataset.lon.values):
            eastward = (longitude + 180) % 360 - 180
            inside = (corners[:-1, :-1] < (eastward + 1e-6, latitude)).all(-1)
            inside &= ((eastward + 1e-6, latitude) < corners[1:, 1:]).all(-1)
            (found,) = values[inside]
            assert found == dataset.u.values[1, 2, row, column]


def test_a_film_has_a_picture_of_each_frame(tmp_path):
    for number, source in enumerate(
        (
            over("sample", "time", "x", sizes=(1, 3, 16)),
            over("sample", "time", "lat", "lon", sizes=(1, 3, 4, 6), **GLOBE),
        )
    ):
        film = tmp_path / f"{number}.gif"
        pde_data.animate(source, film, rate=20)
        with Image.open(film) as opened:
            assert opened.n_frames == 3 and opened.info["duration"] == 50


@pytest.mark.parametrize("kind", KINDS)
def test_the_next_frame_takes_the_place_of_the_last(kind):
    square = np.array([[0.0, 0.0], [1.0, 0.0], [1.0, 1.0], [0.0, 1.0]])
    mesh = triangulate(Domain((square,), (np.ones(4, int),)), 0.3)
    place, space = {
        "line": (pde_data.Grid((5,)), (5,)),
        "plane": (pde_data.Grid((5, 4)), (5, 4)),
        "volume": (pde_data.Grid((5, 4, 6)), (5, 4, 6)),
        "sphere": (Sphere(np.array([-50.0, 0.0, 70.0]), np.arange(4) * 90.0), (3, 4)),
        "mesh": (mesh, (len(mesh.points),)),
    }[kind]
    field = Field("u", random(3, *space), place, ("a", "b", "c"))
    assert field.kind == kind
    for strip in KINDS[kind].moving(field):
        drawn = []
        for frame in (None, 2):
            axes = Figure().add_subplot(projection=strip.projection)
            artist, update = strip.draw(axes, strip.frames[0 if frame else 2])
            if frame:
                update(strip.frames[frame])
            drawn.append(axes.lines[0].get_ydata() if artist is None else artist.get_array())
        np.testing.assert_array_equal(*drawn)


def test_what_cannot_be_animated(tmp_path, monkeypatch):
    with pytest.raises(DatasetError, match="no field over time here, so nothing to animate"):
        pde_data.animate(over("sample", "x", "y", sizes=(1, 4, 5)), tmp_path / "a.gif")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(
        DatasetError, match="a.mp4 needs ffmpeg, which is not installed; choose a name in .gif"
    ):
        pde_data.animate(over("sample", "time", "x", sizes=(1, 4, 5)), tmp_path / "a.mp4")


def test_the_command_draws_and_animates(tmp_path, capsys):
    file, film = tmp_path / "u.h5", tmp_path / "u.gif"
    over("sample", "time", "x", "y", sizes=(2, 4, 6, 5)).assign_coords(sample=[0, 1]).to_netcdf(file)
    assert main(["plot", str(file), "--animate", str(film), "--sample", "1"]) == 0
    with Image.open(film) as opened:
        assert opened.n_frames == 4
    assert main(["plot", str(file)]) == 1
    assert "name a picture to write, or a film with --animate" in capsys.readouterr().err
