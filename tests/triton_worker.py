"""Runs causal problems on the Triton kernel, interpreted on a CPU, and compares with the reference.

Prints a line of JSON for each: its name, the largest relative errors of the solution and both gradients, the
number of diagonals, and that of barriers for each program of the forward solve. Run by
`tests.test_causal_solve_triton`.
"""

import json
import os
import sys

os.environ["TRITON_INTERPRET"] = "1"  # read when triton is imported

import torch
from triton.runtime import interpreter

import opflow.kernels.cpu.causal_solve as cpu
from opflow.kernels import causal_solve
from opflow.kernels.cuda import causal_solve as cuda
from tests.causal_problems import PROBLEMS, problem

barriers = 0


def count_barrier(builder):
    global barriers
    barriers += 1


def run(name, dtype):
    y, weight, options = problem(name)
    leaves = [t.to(dtype).requires_grad_() for t in (y, weight)]
    x = causal_solve(*leaves, **options)
    forward = barriers
    torch.manual_seed(1)
    direction = torch.randn(y.shape, dtype=torch.float64).to(dtype)
    return [t.detach().double() for t in (x, *torch.autograd.grad(x, leaves, direction))], forward


def main() -> None:
    global barriers
    interpreter.InterpreterBuilder.create_barrier = count_barrier
    cpu.solve = cuda.solve  # float32 on a CPU runs the kernel of GPUs, forward and backward
    for name, small in (*((name, False) for name in PROBLEMS), ("7x6", True), ("wide", True)):
        if small:  # more diagonals and taps than one piece holds
            cuda._SHARED, cuda._LANES = 2048, 2
        barriers = 0
        exact, _ = run(name, torch.float64)
        found, forward = run(name, torch.float32)
        errors = [float((a - b).abs().amax() / b.abs().amax()) for a, b in zip(found, exact, strict=True)]
        batch, _, groups, _, space, _ = PROBLEMS[name]
        print(json.dumps([name, errors, sum(space) - len(space) + 1, forward / (batch * groups)]), flush=True)


if __name__ == "__main__":
    sys.exit(main())
