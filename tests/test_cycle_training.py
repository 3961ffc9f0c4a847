"""Training of the cycle: each loss is what it says of a run of conjugate gradients, and goes down."""

import numpy as np
import pytest
import torch

from opflow.training import TrainConfig
from solvers import GridPoisson, MultigridPreconditioner, train_preconditioner
from solvers.cycle import LearnedCycle, pack
from solvers.cycle_losses import LOSSES
from solvers.dcdm_loss import DirectionLoss
from solvers.domains import random_stencil

STEPS = 12


@pytest.fixture(scope="module")
def solved():
    """A run of the learned cycle, and the same written out: operator, preconditioner, residuals, errors."""
    stencil = random_stencil(np.random.default_rng(2), (32, 24), "plates")
    torch.manual_seed(0)
    model = LearnedCycle(2, hidden=5, iterations=STEPS).double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.2 * torch.randn_like(parameter)
        channels = pack([stencil])
        b = torch.randn(1, 32, 24, dtype=torch.float64) * channels[:, -1]
        run = model.run(torch.cat([channels, b[:, None]], 1))
    op = GridPoisson.from_stencil(stencil)
    M = MultigridPreconditioner(model.weights(), dtype=np.float64).setup(op)
    b = op.vector(b[0].numpy())
    exact = np.linalg.solve(op.to_csr().toarray(), b)
    x, r, p = np.zeros_like(b), b, M @ b
    rz = r @ p
    residuals, errors = [np.linalg.norm(b)], [exact @ b]
    for _ in range(STEPS):
        Ap = op @ p
        x, r = x + rz / (p @ Ap) * p, r - rz / (p @ Ap) * Ap
        z = M @ r
        rz, last = r @ z, rz
        p = z + rz / last * p
        residuals.append(np.linalg.norm(r))
        errors.append((exact - x) @ (op @ (exact - x)))
    return run, op, M, b, np.array(residuals), np.sqrt(errors)


def test_the_residuals_are_those_of_conjugate_gradients(solved):
    run, _, _, _, residuals, _ = solved
    np.testing.assert_allclose(run.residuals[:, 0], residuals, rtol=1e-5)
    factor = float(LOSSES["residual"](run))
    assert factor**STEPS == pytest.approx(residuals[-1] / residuals[0], rel=1e-5)


def test_the_energy_is_that_of_the_error_that_nobody_knows(solved):
    run, _, _, _, _, errors = solved
    taken = STEPS - STEPS // 4
    assert float(LOSSES["energy"](run)) ** taken == pytest.approx(errors[taken] / errors[0], rel=0.01)


def test_the_rate_is_that_of_the_condition_number(solved):
    run, op, M, _, _, _ = solved
    values = np.linalg.eigvals((M @ np.eye(op.shape[0])) @ op.to_csr().toarray()).real
    root = np.sqrt(values.max() / values.min())
    assert float(LOSSES["rate"](run)) == pytest.approx((root - 1) / (root + 1), rel=0.03)


def test_the_direction_is_judged_as_in_deep_conjugate_directions(solved):
    run, op, M, b, _, _ = solved
    f, b = (torch.from_numpy(op.field(v))[None, None] for v in (M @ b, b))
    squared = DirectionLoss(op).double()(f, b) / b.square().sum()
    assert float(LOSSES["direction"](run)) ** 2 == pytest.approx(float(squared), rel=1e-5)


@pytest.mark.parametrize("loss", LOSSES)
def test_gradients_of_losses_are_those_of_finite_differences(loss):
    torch.manual_seed(1)
    model = LearnedCycle(2, hidden=3, iterations=4, loss=loss).double()
    stencil = random_stencil(np.random.default_rng(4), (24, 24), "plates")
    channels = pack([stencil])
    x = torch.cat([channels, torch.randn(1, 1, 24, 24, dtype=torch.float64) * channels[:, -1:]], 1)
    value = model.lowest
    (slope,) = torch.autograd.grad(model(x).sum(), value)
    with torch.no_grad():
        for k in range(3):
            ends = []
            for step in (1e-5, -1e-5):
                value[k] += step
                ends.append(float(model(x)))
                value[k] -= step
            assert float(slope[k]) == pytest.approx((ends[0] - ends[1]) / 2e-5, rel=1e-4, abs=1e-9)


@pytest.mark.parametrize("loss", LOSSES)
def test_training_lessens_every_loss_and_keeps_the_best(loss):
    config = TrainConfig(epochs=3, batch_size=4, learning_rate=2e-2, weight_decay=0.0)
    options = {"size": 32, "samples": 16, "hidden": 4, "iterations": 6, "config": config}
    M, history = train_preconditioner(2, loss=loss, **options)
    factors = [row["valid_l2"] for row in history]
    assert 0 < min(factors) < 1 and history[-1]["train_loss"] < history[0]["train_loss"] < 0
    # From the best weights without a step worth mentioning: no worse than they were.
    frozen = TrainConfig(epochs=1, batch_size=16, learning_rate=1e-12, weight_decay=0.0)
    _, again = train_preconditioner(2, loss=loss, start=M, **(options | {"config": frozen}))
    assert again[0]["valid_l2"] == pytest.approx(min(factors), rel=1e-3)


def test_wrong_arguments():
    for words, arguments in (
        ("ndim=4 should be 2 or 3", {"ndim": 4}),
        ("size=20 should be a multiple of 8", {"size": 20}),
        ("iterations=1 should be at least 2", {"iterations": 1}),
        ("loss='l2' is unknown, choose one of residual, energy, rate, direction", {"loss": "l2"}),
        (
            r"training on 3 axes cannot start from weights for 2 with layers of \[16, 16, 2\]",
            {"ndim": 3, "start": MultigridPreconditioner.from_pretrained("poisson2d")},
        ),
        (r"for None with layers of \[\]", {"start": MultigridPreconditioner()}),
    ):
        with pytest.raises(ValueError, match=words):
            train_preconditioner(**arguments)
