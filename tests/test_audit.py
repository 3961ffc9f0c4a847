"""Symmetries of laws, from data: known defects, verdicts on flows, and the group actions themselves."""

import json

import numpy as np
import pytest

from pde_data import EQUATIONS, DatasetError, Grid, audit
from pde_data.cli import main
from pde_data.random_fields import GaussianRandomField
from pde_data.sources import coordinate_variables
from pde_data.storage import Schema, Variable, write
from pde_data.symmetry.actions import symmetries
from pde_data.symmetry.regression import Moments, same_distribution

SPACE = ("x", "y", "z")
KINDS = {"s": "scalar", "p": "pseudoscalar", "vx": "vector x", "vy": "vector y"}


def dataset(grid, times, about=None, **fields):
    """A schema of fields `(sample, time, *space)`; `about` are their attributes by name."""
    dims = ("sample", "time", *SPACE[: grid.ndim])
    variables = {name: Variable(dims, values, (about or {}).get(name, {})) for name, values in fields.items()}
    return Schema({"time": Variable(("time",), np.asarray(times)), **variables, **coordinate_variables(grid)})


def generated(equation, samples, seed):
    result = equation.generate(seed, range(samples))
    fields = {name: result[name] for name in equation.variables}
    return dataset(equation.grid, equation.times, equation.variables, **fields)


def carried(rate, samples=24, n=24, seed=0, **options):
    """Two close frames of random isotropic fields with a law of evolution given on their modes."""
    grid = Grid((n, n))
    first = GaussianRandomField(tau=10.0, alpha=4.0).sample(seed, range(samples), grid)
    kx, ky = np.meshgrid(grid.wavenumbers(0), grid.wavenumbers(1), indexing="ij")
    dt = 1e-4
    second = np.fft.ifft2(np.fft.fft2(first) * np.exp(dt * rate(kx, ky))).real
    return audit.symmetries(dataset(grid, [0.0, dt], s=np.stack([first, second], 1)), seed=seed, **options)


# Laws with known defects: for u_t = a u_x an image of the law under reflection is its negative, so nothing is
# left; for u_t = a u_xx a quarter turn makes u_yy, and of u_xx the mean of the two misses a third when the
# fields are isotropic: E(u_xx - u_yy)^2/4 = E u_xx^2/3.
@pytest.mark.parametrize(
    ("rate", "expected"),
    [
        (lambda kx, ky: 1j * kx, {"rotation by 90": 1, "reflection of x": 1, "reflection of y": 0}),
        (lambda kx, ky: -(kx**2), {"rotation by 90": 1 / 3, "reflection of x": 0, "reflection of y": 0}),
        (lambda kx, ky: -(kx**2) - ky**2, {"rotation by 90": 0, "reflection of x": 0, "translation": 0}),
        (lambda kx, ky: kx * ky, {"rotation by 90": 1, "reflection of x": 1, "reflection of y": 1}),
    ],
)
def test_defects_of_linear_laws(rate, expected):
    result = carried(rate)
    for name, value in expected.items():
        score = result[name]
        assert score.verdict == ("reject" if value else "keep")
        assert score.low - 1e-9 <= score.defect <= score.high + 1e-9
        assert score.defect == pytest.approx(value, abs=0.2 * value + 1e-3)  # fitted to 12 trajectories
    assert result["time reversal"].verdict == "reject"


def test_a_force_that_depends_on_the_place_breaks_translation():
    grid, rng = Grid((24, 24)), np.random.default_rng(0)
    first = GaussianRandomField(tau=10.0, alpha=4.0).sample(0, range(16), grid)
    x, _ = np.meshgrid(*grid.coordinates, indexing="ij")
    dt, size = 0.01, first.std()
    second = first + dt * size * (np.sin(4 * np.pi * x) + 0.02 * rng.standard_normal((16, 1, 1)))
    result = audit.symmetries(dataset(grid, [0.0, dt], s=np.stack([first, second], 1)))
    assert result["translation"].verdict == result["reflection of x"].verdict == "reject"
    assert result["reflection of y"].verdict == "keep"


def flows(seed):
    buoyant = EQUATIONS["boussinesq"](resolution=24, t_end=1.0, records=8, buoyancy=1.0)
    isotropic = EQUATIONS["navier_stokes"](resolution=24, t_end=1.0, records=3, forcing="none")
    return [audit.symmetries(generated(e, 32, seed), seed=seed, intervals=2) for e in (buoyant, isotropic)]


@pytest.mark.parametrize("seed", [0, *(pytest.param(s, marks=pytest.mark.slow) for s in range(1, 10))])
def test_gravity_turns_but_does_not_mirror(seed):
    buoyant, isotropic = flows(seed)
    assert buoyant["reflection of x"].verdict == "keep", buoyant
    assert buoyant["rotation by 90"].verdict == "reject", buoyant
    assert buoyant["reflection of y"].verdict == "reject", buoyant
    for name in ("rotation by 90", "reflection of x", "reflection of y", "translation"):
        assert isotropic[name].verdict == "keep", isotropic
    assert isotropic["time reversal"].verdict == "reject"


def test_kinds_decide_and_can_be_given_by_hand():
    """Vorticity read as a scalar breaks the mirror, since the flow runs the other way."""
    data = generated(EQUATIONS["navier_stokes"](resolution=24, t_end=1.5, records=4, forcing="none"), 12, 0)
    result = audit.symmetries(data, kinds={"vorticity": "scalar"}, intervals=2)
    assert result["reflection of x"].verdict == "reject"
    assert result["rotation by 90"].verdict == "keep"


def burgers(drag, samples=32, n=64):
    """u_t + u u_x = 0.05 u_xx - drag u, by a classical Runge-Kutta method."""
    grid = Grid(n)
    k = 2 * np.pi * np.fft.rfftfreq(n, 1 / n)
    cut = k < 2 * np.pi * n / 3

    def slope(modes):
        u = np.fft.irfft(modes, n)
        return cut * (-0.5j * k * np.fft.rfft(u**2) - (0.05 * k**2 + drag) * modes)

    modes = np.fft.rfft(GaussianRandomField().sample(0, range(samples), grid)) * cut
    records, dt, inner = [], 0.01, 20
    for _ in range(8):
        records.append(np.fft.irfft(modes, n))
        for _ in range(inner):
            h = dt / inner
            a = slope(modes)
            b = slope(modes + h / 2 * a)
            c = slope(modes + h / 2 * b)
            modes = modes + h / 6 * (a + 2 * b + 2 * c + slope(modes + h * c))
    about = {"u": {"symmetry": "vector x", "long_name": "velocity"}}
    return dataset(grid, dt * np.arange(8), about, u=np.stack(records, 1))


@pytest.mark.parametrize(("drag", "verdict"), [(0.0, "keep"), (4.0, "reject")])
def test_drag_breaks_galilean_invariance(drag, verdict):
    result = audit.symmetries(burgers(drag))
    assert result["Galilean shift"].verdict == verdict, result
    assert result["reflection of x"].verdict == result["translation"].verdict == "keep"


def test_distribution_is_compared_apart_from_the_law():
    """Stretched fields under an isotropic law: the law keeps what the fields break."""
    grid = Grid((24, 24))
    kx, ky = np.meshgrid(grid.wavenumbers(0), grid.wavenumbers(1), indexing="ij")
    noise = np.random.default_rng(0).standard_normal((24, 24, 24))
    first = np.fft.ifft2(np.fft.fft2(noise) * np.exp(-((kx / 8) ** 2) - (ky / 20) ** 2)).real
    second = np.fft.ifft2(np.fft.fft2(first) * np.exp(-1e-4 * (kx**2 + ky**2))).real
    result = audit.symmetries(dataset(grid, [0.0, 1e-4], s=np.stack([first, second], 1)))
    assert result["rotation by 90"].verdict == "keep" and result["rotation by 90"].p_value < 0.01
    assert result["reflection of x"].verdict == "keep" and result["reflection of x"].p_value > 0.01


def test_p_values_of_one_distribution_are_uniform():
    rng = np.random.default_rng(0)
    found = []
    for _ in range(300):
        a, b = rng.standard_normal((2, 12, 5, 9))
        plain, moved = (Moments(x.transpose(0, 2, 1) @ x, np.zeros(0), np.zeros(0)) for x in (a, b))
        found.append(same_distribution(plain, moved, rng))
    for level in (0.05, 0.5):
        assert abs(np.mean(np.array(found) <= level) - level) < 4 * np.sqrt(level * (1 - level) / 300)


def test_what_cannot_be_predicted_stays_undecided():
    noise = np.random.default_rng(0).standard_normal((12, 4, 16, 16))
    result = audit.symmetries(dataset(Grid((16, 16)), np.arange(4.0), s=noise))
    assert result["rotation by 90"].verdict == "undecided"
    assert "closer in time" in result["rotation by 90"].remark


def test_few_trajectories_stay_undecided():
    result = carried(lambda kx, ky: -(kx**2) - ky**2, samples=4)
    assert (
        result["rotation by 90"].verdict == "undecided"
        and "4 trajectories" in result["rotation by 90"].remark
    )


def test_what_does_not_apply_is_skipped_with_the_reason():
    grid = Grid((16, 12), lengths=(2.0, 1.0), periodic=False)
    values = np.random.default_rng(0).standard_normal((8, 3, 16, 12)).cumsum(2)
    result = audit.symmetries(dataset(grid, np.arange(3.0), s=values))
    assert "differ in sizes" in result["rotation by 90"].remark
    assert "bounded" in result["translation"].remark
    half = audit.symmetries(dataset(grid, np.arange(3.0), {"v": {"symmetry": "vector x"}}, v=values))
    assert "one component of a vector" in half["reflection of x"].remark


# Actions


def fields(grid, seed=0):
    rng = np.random.default_rng(seed)
    return rng.standard_normal((4, *grid.sizes))


@pytest.mark.parametrize("location", ["node", "cell"])
def test_actions_form_groups(location):
    grid = Grid((9, 9), location=location)
    signs = {"s": 1, "p": -1, "vx": -1, "vy": -1}
    table = {s.name: s.actions for s in symmetries(grid, list(KINDS), KINDS, signs, speed=2.0)}
    a, b = fields(grid), fields(grid, 1)
    quarter, half, three = table["rotation by 90"]
    assert all(np.array_equal(x, y) for x, y in zip(quarter(*quarter(a, b, 1.0), 1.0), half(a, b, 1.0)))
    assert all(np.array_equal(x, y) for x, y in zip(quarter(*three(a, b, 1.0), 1.0), (a, b)))
    for name in ("reflection of x", "reflection of y", "time reversal"):
        (act,) = table[name]
        assert all(np.array_equal(x, y) for x, y in zip(act(*act(a, b, 1.0), 1.0), (a, b)))
    forth, back, *_ = table["Galilean shift"]
    assert all(np.allclose(x, y, atol=1e-12) for x, y in zip(back(*forth(a, b, 0.3), 0.3), (a, b)))


@pytest.mark.parametrize("location", ["node", "cell"])
@pytest.mark.parametrize("name", ["rotation by 90", "reflection of x", "reflection of y"])
def test_gradients_turn_as_vectors_and_curls_as_pseudoscalars(name, location):
    grid = Grid((9, 9), location=location)
    kx, ky = np.meshgrid(grid.wavenumbers(0), grid.wavenumbers(1), indexing="ij")
    slope = lambda u, k: np.fft.ifft2(1j * k * np.fft.fft2(u)).real  # noqa: E731

    def derived(values):
        """The scalar, the curl of the vector field, and the gradient of the scalar."""
        s, _, vx, vy = values
        return np.stack([s, slope(vy, kx) - slope(vx, ky), slope(s, kx), slope(s, ky)])

    signs = {"s": 1, "p": -1, "vx": -1, "vy": -1}
    table = {s.name: s.actions for s in symmetries(grid, list(KINDS), KINDS, signs, speed=None)}
    for act in table[name]:
        a = fields(grid)
        one, two = act(a, derived(a), 1.0)
        assert np.allclose(two, derived(one), atol=1e-12)


# Interface


def test_command_prints_and_writes_json(tmp_path, capsys):
    data = burgers(0.0, samples=8, n=32)
    variables = {**data.variables, "sample": Variable(("sample",), np.arange(8))}
    write(tmp_path / "b.h5", Schema(variables), ())
    assert main(["audit", str(tmp_path / "b.h5"), "--json", str(tmp_path / "b.json")]) == 0
    text = capsys.readouterr().out
    assert "reflection of x" in text and "99% bounds" in text
    content = json.loads((tmp_path / "b.json").read_text())
    assert content["scores"]["reflection of x"]["verdict"] in ("keep", "undecided")


def test_wrong_arguments_are_told():
    data = burgers(0.0, samples=2, n=32)
    with pytest.raises(ValueError, match="'w' is not among the fields u"):
        audit.symmetries(data, kinds={"w": "scalar"})
    with pytest.raises(ValueError, match="'u' is called 'tensor', expected one of scalar"):
        audit.symmetries(data, kinds={"u": "tensor"})
    with pytest.raises(ValueError, match=r"backwards\['u'\]=2, expected 1 or -1"):
        audit.symmetries(data, backwards={"u": 2})
    with pytest.raises(DatasetError, match="no field 'w' over time; it has u"):
        audit.symmetries(data, fields=["w"])
