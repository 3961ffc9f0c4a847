"""The Triton kernel of causal solves: its results by the interpreter, and its compilation for GPUs."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.causal_problems import PROBLEMS

pytest.importorskip("triton", reason="needs the extra `triton`")
ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def interpreted():
    """Run all problems in a process of their own: triton chooses the interpreter when it is imported."""
    path = os.pathsep.join((str(ROOT), os.environ.get("PYTHONPATH", "")))
    command = [sys.executable, "-W", "ignore", "-m", "tests.triton_worker"]
    done = subprocess.run(
        command, cwd=ROOT, env=os.environ | {"PYTHONPATH": path}, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_solutions_and_gradients_are_those_of_the_reference(interpreted):
    assert [name for name, *_ in interpreted] == [*PROBLEMS, "7x6", "wide"]
    for name, errors, _, _ in interpreted:
        assert max(errors) < 3e-6, name


def test_one_launch_takes_one_wave_for_each_diagonal(interpreted):
    """Each program passes one barrier for each diagonal; a volume is solved plane by plane."""
    for name, _, diagonals, barriers in interpreted:
        space = PROBLEMS[name][4]
        if len(space) == 3:
            planes, *rest = space
            diagonals = planes * (sum(rest) - 1)
        assert barriers == diagonals, name


@pytest.mark.parametrize(
    "rows, columns, c, up, left, capability",
    [
        (16, 16, 12, 3, 3, 90),
        (16, 16, 12, 3, 3, 80),
        (64, 64, 3, 3, 3, 90),
        (128, 128, 12, 3, 3, 90),
        (16, 9, 24, 5, 7, 90),
    ],
)
def test_compiles_without_a_gpu(rows, columns, c, up, left, capability, tmp_path, monkeypatch):
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    monkeypatch.setenv("TRITON_DEFAULT_FP_FUSION", "1")
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    from opflow.kernels.cuda import causal_solve as cuda

    sizes = cuda.choose(rows, columns, c, up, left)
    options = {name: sizes.pop(name) for name in ("num_warps", "num_stages")}
    kinds = dict.fromkeys(("y", "corner", "others", "x"), "*fp32") | {"flips": "*i64"}
    kinds |= dict.fromkeys(("rows", "columns", "groups"), "i32") | dict.fromkeys(sizes, "constexpr")
    source = ASTSource(cuda.wavefront, {name: kinds[name] for name in cuda.wavefront.arg_names}, sizes)
    compiled = triton.compile(source, target=GPUTarget("cuda", capability, 32), options=options)
    assert compiled.asm["cubin"][:4] == b"\x7fELF"
    assert compiled.metadata.shared <= 64 << 10  # bytes that any card in use has
    # Threads of a program meet between diagonals, which the interpreter would not miss.
    program = compiled.asm["ttgir"]
    assert program.rindex("barrier") > program.rindex("tt.store")
    # Products keep all digits of float32.
    assembly = compiled.asm["ptx"]
    assert "fma.rn.f32" in assembly and "mma" not in assembly and "tf32" not in assembly
