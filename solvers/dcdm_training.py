"""Train the network of the Deep Conjugate Direction Method."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch.utils.data import TensorDataset

from solvers.dcdm import DCDMPreconditioner
from solvers.dcdm_data import krylov_residuals, lanczos_fields, mode_fields
from solvers.dcdm_loss import DirectionLoss
from solvers.dcdm_network import DCDMNetwork
from solvers.grid import GridPoisson

DATA = {"modes": mode_fields, "lanczos": lanczos_fields}


def train_dcdm(
    network: DCDMNetwork,
    op: GridPoisson,
    *,
    data: str = "modes",
    samples: int = 1000,
    rounds: int = 3,
    seconds: float = 600.0,
    batch_size: int = 4,
    learning_rate: float = 1e-2,
    steps: int = 10,
    seed: int = 0,
) -> DCDMPreconditioner:
    """Train a network on one operator, without solutions, through `opflow.fit`.

    The first round takes right-hand sides only, as the paper does. In each further one, half of the samples
    are residuals that `fcg` meets with the network as it is then: an addition of this package, off with
    `rounds=1`. The memory is that of the samples.

    Args:
        network: trained in place.
        op: the operator, without obstacles for `data="modes"`.
        data: "modes" (`mode_fields`) or "lanczos" (`lanczos_fields`, as published).
        samples: in each round.
        rounds: how many, of equal time.
        seconds: wall time of the training steps.
        batch_size: samples per step.
        learning_rate: for Adam, the largest of the first round, halved in each further one; in each it falls
            to zero along a cosine.
        steps: of `fcg` from each start of the residuals.
        seed: of the samples and their order.

    Returns:
        The preconditioner, set up for the operator, with a record of the training in `trained`.

    Raises:
        ValueError: the data are unknown, or network and operator have different axes.
        FloatingPointError: the loss is not finite any more.

    Example:
        >>> op = GridPoisson(np.ones((16, 16), bool))
        >>> network = DCDMNetwork(2, width=4, levels=None, bias=False)
        >>> M = train_dcdm(network, op, samples=8, rounds=1, seconds=0.1)
        >>> M.trained["sizes"]
        [16, 16]
    """
    from opflow.training import TrainConfig, fit

    if data not in DATA:
        raise ValueError(f"data={data!r} is unknown, choose {' or '.join(DATA)}")
    if rounds < 1 or samples < 2:
        raise ValueError(f"rounds={rounds} should be at least 1, samples={samples} at least 2")
    loss = DirectionLoss(op)
    M, final = DCDMPreconditioner(network).setup(op), float("nan")
    for turn in range(rounds):
        fields = DATA[data](op, samples, seed=seed + turn)
        if turn > 0:
            starts = max(1, samples // 2 // steps)
            found = list(krylov_residuals(op, fields[:starts], M=M, steps=steps))[: samples // 2]
            fields[samples - len(found) :] = np.stack(found)
        b = torch.from_numpy(fields)[:, None]
        config = TrainConfig(
            batch_size=batch_size,
            learning_rate=learning_rate / 2**turn,
            optimizer="adam",
            weight_decay=0.0,
            budget_seconds=seconds / rounds,
            seed=seed + turn,
        )
        result = fit(network, TensorDataset(b, b), loss=loss, config=config)
        final = result.history[-1]["train_loss"]
        M = DCDMPreconditioner(network).setup(op)
    M.trained = {**_described(op), "data": data, "samples": samples, "rounds": rounds, "loss": final}
    return M


def _described(op: GridPoisson) -> dict[str, Any]:
    """The operator of a training, as JSON values."""
    return {"sizes": list(op.mask.shape), "ends": [list(pair) for pair in op.stencil.ends]}
