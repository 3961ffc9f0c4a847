"""Training of the graph preconditioner, and the files of its weights."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import sparse

from solvers import GraphPreconditioner, GraphWeights, check_preconditioner, train_graph
from solvers.graph_hierarchy import unit_diagonal
from solvers.graph_operands import DenseOperand, SparseOperand
from solvers.graph_weights import random_weights
from tests.cases.graphs import LAPLACIAN, flow, rock, steps


@pytest.mark.parametrize("forward", [True, False])
def test_sparse_sweeps_and_their_gradients_agree_with_dense_ones(forward):
    A, _ = unit_diagonal(sparse.csr_matrix(LAPLACIAN))
    given, dense = SparseOperand(A), DenseOperand(torch.tensor(A.toarray()))
    rng = np.random.default_rng(0)
    b = torch.tensor(rng.standard_normal((16, 2)), requires_grad=True)
    factors = torch.tensor(rng.uniform(0.5, 1.5, 16), requires_grad=True)
    torch.testing.assert_close(given.sweep(b, factors, forward), dense.sweep(b, factors, forward))
    assert torch.autograd.gradcheck(lambda b, f: given.sweep(b, f, forward), (b, factors))
    assert torch.autograd.gradcheck(lambda b: given @ b, (b,))


def test_training_lowers_the_number_of_steps():
    seen = [(flow(0.05, index)[0], None) for index in range(20, 22)]
    losses = []
    weights = train_graph(
        seen, family="Darcy flow", steps=15, learning_rate=3e-2, progress=lambda _, loss: losses.append(loss)
    )
    assert np.mean(losses[-5:]) < 1.05 * np.mean(losses[:5]) < 0
    A, b, _ = flow(0.02, 30)
    M = GraphPreconditioner(weights, max_coarse=20).setup(A)
    classical = GraphPreconditioner(max_coarse=20).setup(A)
    assert check_preconditioner(A, M).eigenvalues[0] > 1.1 * check_preconditioner(A, classical).eigenvalues[0]
    assert steps(A, b, M, 1e-10) < steps(A, b, classical, 1e-10)


def test_training_needs_matrices():
    with pytest.raises(ValueError, match="matrices is empty"):
        train_graph([], family="nothing")


def test_weights_survive_a_file(tmp_path):
    A, b, _ = rock()
    M = GraphPreconditioner(replace(random_weights(0), theta=0.1, drop=0.05, family="none")).setup(A)
    M.save(tmp_path / "weights.json")
    again = GraphPreconditioner.load(tmp_path / "weights.json").setup(A)
    np.testing.assert_array_equal(again @ b, M @ b)
    assert (again.weights.family, again.weights.theta, again.weights.drop) == ("none", 0.1, 0.05)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        "not JSON",
        '{"format": "opflow graph weights 1"}',
        '{"format": "opflow graph weights 2"}',
    ]
    + [
        '{"format": "opflow graph weights 1", "family": "x", "theta": 0, "drop": 0, "parameters": '
        + part
        + "}"
        for part in ("{}", '{"W1": 3}', "[1]", '{"W1": [["a"]]}', '{"W1": [[1], [2, 3]]}')
    ],
)
def test_other_files_are_refused(text, tmp_path):
    path = tmp_path / "weights.json"
    path.write_text(text)
    with pytest.raises(ValueError, match="holds no weights of a GraphPreconditioner"):
        GraphPreconditioner.load(path)


def test_errors_of_weights(tmp_path):
    good = GraphWeights().parameters
    with pytest.raises(ValueError, match="expected W1, b1"):
        GraphWeights({"W1": good["W1"]})
    with pytest.raises(
        ValueError, match=r"W3 are float64 of shape \(2, 2\), expected finite numbers of shape"
    ):
        GraphWeights({**good, "W3": np.ones((2, 2))})
    with pytest.raises(ValueError, match="finite"):
        GraphWeights({**good, "b3": np.full(5, np.nan)})
    for name in ("theta", "drop"):
        with pytest.raises(ValueError, match=f"{name}=1.5 should be"):
            GraphWeights(**{name: 1.5})
    with pytest.raises(FileNotFoundError):
        GraphPreconditioner.load(tmp_path / "missing.json")
    with pytest.raises(ValueError, match="no weights 'nothing', there are graph"):
        GraphPreconditioner.from_pretrained("nothing")
    with pytest.raises(ValueError, match="max_coarse=0"):
        GraphPreconditioner(max_coarse=0)
