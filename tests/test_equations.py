"""What every equation of the table promises."""

import json
from importlib.util import find_spec

import numpy as np
import pytest

from pde_data.equations import EQUATIONS, MeshEquation
from tests import tables
from tests.cases import by_sample, measured_drift, relative


def row(case, *values, id):
    absent = case.requires is not None and find_spec(case.requires) is None
    return pytest.param(
        *values, id=id, marks=pytest.mark.skipif(absent, reason=f"{case.requires} is not installed")
    )


CASES = pytest.mark.parametrize("case", [row(case, case, id=name) for name, case in tables.EQUATIONS.items()])


def test_every_equation_is_in_the_table():
    assert tables.EQUATIONS.keys() == EQUATIONS.keys()
    assert all(type(case.equation) is EQUATIONS[name] for name, case in tables.EQUATIONS.items())


@pytest.mark.parametrize(
    ("exact", "dtype"),
    [
        row(c, e, dtype, id=f"{n}-{e.name}-{dtype.__name__}")
        for n, c in tables.EQUATIONS.items()
        for e in c.exact
        for dtype in e.tolerance
    ],
)
def test_exact_solution(exact, dtype):
    computed, expected = exact.solve(dtype)
    assert computed.dtype == dtype
    assert relative(computed, expected) <= exact.tolerance[dtype]


@pytest.mark.parametrize(
    "order",
    [row(c, o, id=f"{n}-{o.name}") for n, c in tables.EQUATIONS.items() for o in c.orders],
)
def test_order_of_convergence(order):
    assert order.measure() == pytest.approx(order.expected, abs=order.within)


@CASES
def test_budgets_hold(case):
    drift = measured_drift(case) if case.drift else {}
    assert drift.keys() == case.drift.keys()
    assert all(drift[name] <= allowed for name, allowed in case.drift.items()), drift


@CASES
def test_generated_arrays_fit_the_description(case):
    reported = []
    result = case.equation.generate(seed=1, indices=[0, 5, 2], progress=reported.append)
    times, on_meshes = case.equation.times, isinstance(case.equation, MeshEquation)
    for variable, about in case.equation.variables.items():
        over_time = times is not None and variable not in case.equation.static
        if on_meshes:
            assert result[variable].shape == (sum(len(mesh.points) for mesh in result["meshes"]),)
        else:
            frames = (len(times),) if over_time else ()
            assert result[variable].shape == (3, *frames, *case.equation.grid.sizes)
        assert result[variable].dtype == np.float32
        assert np.isfinite(result[variable]).all()
        assert about.keys() == {"units", "long_name", "symmetry"}
        assert about["symmetry"] in ("scalar", "pseudoscalar", "vector x", "vector y", "vector z")
    for values in (*result["parameters"].values(), *result["diagnostics"].values()):
        assert values.shape == (3,)
    assert sum(reported) == 3
    assert times is None or (times[0] == 0 and np.all(np.diff(times) > 0))


@CASES
def test_a_sample_depends_on_seed_and_index_alone(case):
    members = [case.samples - 1, 1]
    every = case.equation.generate(seed=3, indices=range(case.samples))
    some = case.equation.generate(seed=3, indices=members)
    other = case.equation.generate(seed=4, indices=members)
    for variable in case.equation.variables:
        mine, others = by_sample(some, variable), by_sample(other, variable)
        for values, here, there in zip(
            [by_sample(every, variable)[member] for member in members], mine, others
        ):
            assert np.abs(values - here).max() <= 1e-5 * np.abs(here).max()
            assert there.shape != here.shape or np.abs(there - here).max() > 0.1 * np.abs(here).max()
    for name in every["diagnostics"].keys() & {"steps"}:
        assert np.array_equal(every["diagnostics"][name][members], some["diagnostics"][name])


@CASES
def test_the_same_request_gives_the_same_bytes(case):
    a, b = (case.equation.generate(seed=0, indices=range(min(9, case.samples))) for _ in range(2))
    for variable in case.equation.variables:
        assert a[variable].tobytes() == b[variable].tobytes()


@CASES
def test_attributes_are_json_and_tell_parameters_apart(case):
    text = json.dumps(case.equation.attributes(), allow_nan=False)
    assert text == json.dumps(case.equation.attributes())
    assert text != json.dumps(case.other.attributes())
