"""What every equation of the table promises."""

import json
from importlib.util import find_spec

import numpy as np
import pytest

from pde_data.equations import EQUATIONS
from tests import tables
from tests.cases import measured_drift, relative


def row(value, name, case):
    missing = case.needs and not find_spec(case.needs)
    return pytest.param(value, id=name, marks=pytest.mark.skipif(bool(missing), reason=f"needs {case.needs}"))


CASES = pytest.mark.parametrize("case", [row(case, name, case) for name, case in tables.EQUATIONS.items()])


def test_every_equation_is_in_the_table():
    assert tables.EQUATIONS.keys() == EQUATIONS.keys()
    assert all(type(case.equation) is EQUATIONS[name] for name, case in tables.EQUATIONS.items())


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize(
    "exact", [row(exact, exact.name, case) for case in tables.EQUATIONS.values() for exact in case.exact]
)
def test_exact_solution(exact, dtype):
    computed, expected = exact.solve(dtype)
    assert computed.dtype == dtype
    assert relative(computed, expected) <= exact.tolerance[dtype]


@pytest.mark.parametrize(
    "order",
    [row(o, f"{name}-{o.name}", case) for name, case in tables.EQUATIONS.items() for o in case.orders],
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
    times, sizes = case.equation.times, case.equation.grid.sizes
    for variable, about in case.equation.variables.items():
        over_time = times is not None and variable not in case.equation.static
        assert result[variable].shape == (3, *((len(times),) if over_time else ()), *sizes)
        assert result[variable].dtype == np.float32
        assert np.isfinite(result[variable]).all()
        assert about.keys() - {"standard_name"} == {"units", "long_name", "symmetry"}
        assert about["symmetry"] in ("scalar", "pseudoscalar", "vector x", "vector y", "vector z")
    for values in (*result["parameters"].values(), *result["diagnostics"].values()):
        assert values.shape == (3,)
    assert sum(reported) == 3
    assert times is None or (times[0] == 0 and np.all(np.diff(times) > 0))


@CASES
def test_a_sample_depends_on_seed_and_index_alone(case):
    every = case.equation.generate(seed=3, indices=range(20))
    some = case.equation.generate(seed=3, indices=[17, 4])
    other = case.equation.generate(seed=4, indices=[17, 4])
    for variable in case.equation.variables:
        difference = np.abs(every[variable][[17, 4]] - some[variable]).max()
        assert difference <= 1e-5 * np.ptp(some[variable])
        assert np.abs(other[variable] - some[variable]).max() > 0.1 * np.ptp(some[variable])
    for name in every["diagnostics"].keys() & {"steps"}:
        assert np.array_equal(every["diagnostics"][name][[17, 4]], some["diagnostics"][name])


@CASES
def test_the_same_request_gives_the_same_bytes(case):
    a, b = (case.equation.generate(seed=0, indices=range(9)) for _ in range(2))
    for variable in case.equation.variables:
        assert a[variable].tobytes() == b[variable].tobytes()


@CASES
def test_attributes_are_json_and_tell_parameters_apart(case):
    text = json.dumps(case.equation.attributes(), allow_nan=False)
    assert text == json.dumps(case.equation.attributes())
    assert text != json.dumps(case.other.attributes())
