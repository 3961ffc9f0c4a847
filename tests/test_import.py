"""Importing the package is cheap and changes nothing."""

import subprocess
import sys

HEAVY = ("matplotlib", "neuralop", "xarray", "tltorch", "h5netcdf", "tyro", "numba", "accelerate", "onnx")

SNAPSHOT = """
import locale, os, random, sys, warnings
import torch, numpy
def snapshot():
    return dict(
        filters=list(warnings.filters), dtype=torch.get_default_dtype(), threads=torch.get_num_threads(),
        grad=torch.is_grad_enabled(), deterministic=torch.are_deterministic_algorithms_enabled(),
        torch_seed=torch.initial_seed(), torch_state=torch.get_rng_state().tolist(), python=random.getstate(),
        numpy_errors=numpy.geterr(), environment=dict(os.environ), locale=locale.setlocale(locale.LC_ALL),
        precision=torch.get_float32_matmul_precision(), hook=sys.excepthook, path=list(sys.path),
    )
before = snapshot()
import opflow
from opflow import FNO, Operator, build, export, interop, load, metrics, plot, rollout
after = snapshot()
changed = [key for key in before if before[key] != after[key]]
assert not changed, changed
heavy = [name for name in HEAVY if name in sys.modules]
assert not heavy, heavy
"""


def test_importing_costs_little_more_than_torch():
    measure = "import time, torch; t = time.process_time(); import opflow; print(time.process_time() - t)"
    runs = [
        subprocess.run([sys.executable, "-c", measure], check=True, capture_output=True) for _ in range(3)
    ]
    # The least: what other processes do to the caches comes on top.
    assert min(float(run.stdout) for run in runs) <= 0.3


def test_importing_changes_no_global_state_and_loads_nothing_slow():
    code = SNAPSHOT.replace("HEAVY", repr(HEAVY))
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_unknown_names_are_attribute_errors():
    import opflow

    assert set(opflow.__all__) <= set(dir(opflow))
    for name in opflow.__all__:
        assert getattr(opflow, name) is not None
    try:
        _ = opflow.nothing_of_that_name
    except AttributeError as error:
        assert "has no attribute 'nothing_of_that_name'" in str(error)
    else:
        raise AssertionError("an unknown name was found")
