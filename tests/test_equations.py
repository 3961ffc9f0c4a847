"""What every equation of the table promises."""

import json
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch

from pde_data.equations import EQUATIONS, MeshEquation
from pde_data.equations.periodic import Periodic
from tests import tables
from tests.cases import SYMMETRIES, by_sample, measured_drift, relative, trajectory


def row(value, name, case):
    missing = case.needs and not find_spec(case.needs)
    return pytest.param(value, id=name, marks=pytest.mark.skipif(bool(missing), reason=f"needs {case.needs}"))


CASES = pytest.mark.parametrize("case", [row(case, name, case) for name, case in tables.EQUATIONS.items()])


def test_every_equation_is_in_the_table():
    assert tables.EQUATIONS.keys() == EQUATIONS.keys()
    assert all(type(case.equation) is EQUATIONS[name] for name, case in tables.EQUATIONS.items())


def test_every_equation_has_its_row_in_the_documentation():
    page = (Path(__file__).parents[1] / "docs" / "equations.md").read_text(encoding="utf-8")
    rows = {line.split("**")[1]: line for line in page.splitlines() if line.startswith("| **")}
    assert rows.keys() == EQUATIONS.keys(), "run `python benchmarks/equations.py`"
    for name, case in tables.EQUATIONS.items():
        assert case.equation.formula.replace("|", "\\|") in rows[name]
        proofs = [*case.exact, *case.orders, *case.rates]
        for words in (*(proof.name for proof in proofs), *case.drift, *case.decreasing, *case.symmetries):
            assert words.replace("_", " ") in rows[name].replace("_", " "), (name, words)


@pytest.mark.parametrize(
    "proof",
    [
        row((exact, dtype), f"{exact.name}-{dtype.__name__}", case)
        for case in tables.EQUATIONS.values()
        for exact in case.exact
        for dtype in exact.tolerance
    ],
)
def test_exact_solution(proof):
    exact, dtype = proof
    computed, expected = exact.solve(dtype)
    assert computed.dtype == dtype
    assert relative(computed, expected) <= exact.tolerance[dtype]


@pytest.mark.parametrize(
    "order",
    [row(o, f"{name}-{o.name}", case) for name, case in tables.EQUATIONS.items() for o in case.orders],
)
def test_order_of_convergence(order):
    assert order.measure() == pytest.approx(order.expected, abs=order.within)


@pytest.mark.parametrize(
    "rate",
    [pytest.param(r, id=f"{n}-{r.name}") for n, c in tables.EQUATIONS.items() for r in c.rates],
)
def test_rate_of_spectral_convergence(rate):
    assert rate.measure() == pytest.approx(rate.expected, rel=rate.within)


@pytest.mark.parametrize(
    "case",
    [pytest.param(c, id=n) for n, c in tables.EQUATIONS.items() if isinstance(c.equation, Periodic)],
)
def test_solving_commutes_with_its_symmetries_and_no_others(case):
    first = case.equation.initial(0, range(2), case.equation.grid)
    about = {name: attributes["symmetry"] for name, attributes in case.equation.variables.items()}

    def end(fields):
        tensors = {name: torch.from_numpy(values.copy()) for name, values in fields.items()}
        (last,) = case.equation.solve(tensors, case.equation.times[-1:])
        return {name: values.numpy() for name, values in last.items()}

    plain = end(first)
    for name, move in SYMMETRIES[case.equation.grid.ndim].items():
        moved = end({k: move(v, about[k]) for k, v in first.items()})
        expected = {k: move(v, about[k]) for k, v in plain.items()}
        error = max(relative(moved[k], expected[k]) for k in expected)
        assert error <= 1e-11 if name in case.symmetries else error > 1e-4, (name, error)


DECREASING = [
    pytest.param(c, values, id=f"{n}-{name}")
    for n, c in tables.EQUATIONS.items()
    for name, values in c.decreasing.items()
]


@pytest.mark.parametrize(("case", "values"), DECREASING)
def test_what_must_decrease_does(case, values):
    over_time = values(trajectory(case.equation))
    assert np.all(np.diff(over_time) < 0)
    assert np.all(over_time[:, -1] < 0.99 * over_time[:, 0])


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
        assert about.keys() - {"standard_name"} == {"units", "long_name", "symmetry"}
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
        again = [by_sample(every, variable)[member] for member in members]
        for values, here, there in zip(again, mine, others):
            assert np.abs(values - here).max() <= 1e-5 * np.ptp(here)
            assert there.shape != here.shape or np.abs(there - here).max() > 0.1 * np.ptp(here)
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
