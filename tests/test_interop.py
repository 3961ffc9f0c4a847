"""Our FNO and neuraloperator's are one function, both ways, wherever neuraloperator's is right."""

import random
import subprocess
import sys
import warnings

import pytest
import torch
from torch.nn import functional as F

from opflow import FNO
from opflow.interop import from_neuralop, to_neuralop

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from neuralop.models import FNO as TheirFNO
    from neuralop.models import TFNO

SMALL = dict(n_modes=(4, 6), in_channels=2, out_channels=1, hidden_channels=6, n_layers=2)


def distance(a, b):
    return ((a - b).norm() / b.norm()).item()


def random_model(seed):
    """Return a model of neuraloperator with random options and weights, and a grid on which it is right."""
    choose = random.Random(seed)
    n_dim = choose.choice([1, 2, 2, 3])
    n_modes = [choose.choice([2, 4, 6, 8]) for _ in range(n_dim)]
    factorization = choose.choice([None, None, "tucker", "cp", "tt"])
    arguments = dict(
        n_modes=n_modes,
        in_channels=choose.randint(1, 3),
        out_channels=choose.randint(1, 3),
        hidden_channels=choose.choice([4, 5, 6]),
        n_layers=choose.randint(1, 3),
        lifting_channel_ratio=choose.choice([0, 1, 2, 1.5]),
        projection_channel_ratio=choose.choice([1, 2, 1.3]),
        positional_embedding=choose.choice(["grid", None]),
        non_linearity=choose.choice([F.gelu, F.relu, torch.tanh, F.silu]),
        norm=choose.choice([None, None, "instance_norm", "group_norm", "batch_norm"]),
        use_channel_mlp=choose.random() < 0.7,
        channel_mlp_expansion=choose.choice([0.5, 1, 0.7]),
        channel_mlp_skip=choose.choice(["linear", "identity", "soft-gating", None]),
        fno_skip=choose.choice(["linear", "identity", "soft-gating", None]),
        domain_padding=choose.choice([None, None, 0.25, [0.25] * n_dim]),
        stabilizer=choose.choice([None, "tanh"]),
        max_n_modes=choose.choice([None, None, [m + 2 for m in n_modes]]),
        factorization=factorization,
        rank=choose.choice([0.3, 0.7]) if factorization else 1.0,
        separable=choose.random() < 0.25,
        preactivation=choose.random() < 0.3,
    )
    sizes = [8, 16] if arguments["domain_padding"] else [4, 8, 12, 16]  # padded sizes must be even as well
    grid = [choose.choice(sizes[: 2 if n_dim == 3 else None]) for _ in range(n_dim)]
    torch.manual_seed(seed)
    with warnings.catch_warnings():  # tensorly warns about tensor trains of matrices
        warnings.simplefilter("ignore")
        model = TheirFNO(**arguments)
    with torch.no_grad():  # gates, biases and statistics away from ones and zeros
        for tensor in [*model.parameters(), *model.buffers()]:
            if tensor.dtype == torch.float32:
                tensor.mul_(torch.rand_like(tensor) + 0.5)
    return model.train(choose.random() < 0.5), torch.randn(2, arguments["in_channels"], *grid)


@pytest.mark.parametrize("seed", range(40))
def test_random_configurations_agree_both_ways(seed):
    theirs, x = random_model(seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ours = from_neuralop(theirs)
        back = to_neuralop(ours)
    with torch.no_grad():
        expected, y = theirs(x), ours(x)
        assert ours.training == theirs.training
        # float32 rounding of an ill-conditioned model, where that is more
        rounding = distance(y.double(), ours.double()(x.double()))
        assert distance(y, expected) <= max(1e-5, 4 * rounding)
        assert distance(back(x), expected) <= 1e-6


@pytest.mark.parametrize("n", [4, 6, 8, 10, 16])
@pytest.mark.parametrize("n_dim", [1, 2, 3])
def test_grids_smaller_equal_and_larger_than_the_modes(n, n_dim):
    theirs = TheirFNO((8,) * n_dim, in_channels=1, out_channels=1, hidden_channels=4, n_layers=2)
    x = torch.randn(2, 1, *(n, 8, 8)[:n_dim])
    with torch.no_grad():
        assert distance(from_neuralop(theirs)(x), theirs(x)) <= 1e-5


def test_a_state_dict_alone_determines_the_default_options():
    theirs = TheirFNO(**SMALL, factorization="tucker", rank=0.4, norm="group_norm", lifting_channel_ratio=0)
    state = theirs.state_dict()
    del state["_metadata"]
    ours = from_neuralop(state)
    assert ours.config["factorization"] == "tucker" and ours.config["norm"] == "group_norm"
    x = torch.randn(2, 2, 8, 12)
    with torch.no_grad():
        assert distance(ours(x), theirs.eval()(x)) <= 1e-5


def test_a_state_dict_with_metadata_determines_everything():
    theirs = TheirFNO(**SMALL, positional_embedding=None, fno_skip=None, non_linearity=torch.tanh).eval()
    ours = from_neuralop(theirs.state_dict())
    x = torch.randn(2, 2, 8, 12)
    with torch.no_grad():
        assert distance(ours(x), theirs(x)) <= 1e-5


def test_options_without_a_trace_are_given_as_arguments():
    theirs = TheirFNO(**SMALL, fno_skip="identity", norm="instance_norm", domain_padding=0.5).eval()
    state = theirs.state_dict()
    del state["_metadata"]
    with pytest.raises(ValueError, match="say fno_skip='identity' or fno_skip=None"):
        from_neuralop(state)
    ours = from_neuralop(state, fno_skip="identity", norm="instance_norm", domain_padding=0.5)
    x = torch.randn(2, 2, 8, 12)
    with torch.no_grad():
        assert distance(ours(x), theirs(x)) <= 1e-5


def test_tfno_and_modes_raised_after_construction():
    x = torch.randn(2, 2, 16, 16)
    with torch.no_grad():
        tfno = TFNO((8, 8), in_channels=2, out_channels=1, hidden_channels=8, n_layers=2, rank=0.3).eval()
        assert distance(from_neuralop(tfno)(x), tfno(x)) <= 1e-5
        raised = TheirFNO((4, 4), 2, 1, 6, n_layers=2, max_n_modes=(8, 8)).eval()
        before = from_neuralop(raised)(x)
        raised.n_modes = (8, 8)
        assert distance(from_neuralop(raised)(x), raised(x)) <= 1e-5
        assert distance(raised(x), before) > 1e-3


def test_a_converted_model_saves_and_loads(tmp_path):
    from opflow import load

    ours = from_neuralop(TheirFNO(**SMALL, factorization="cp", rank=0.5)).eval()
    ours.save_pretrained(tmp_path)
    x = torch.randn(1, 2, 8, 8)
    assert torch.equal(load(tmp_path)(x), ours(x))


@pytest.mark.parametrize("lifting_channel_ratio", [0, 2])
def test_a_fitted_normalizer_is_folded_in(lifting_channel_ratio):
    ours = FNO((4, 4), 2, 1, 6, n_layers=2, domain_padding=0.25, lifting_channel_ratio=lifting_channel_ratio)
    ours.normalizer.set([3.0, -1.0], [2.0, 0.5], [10.0], [4.0])
    x = 3 + 2 * torch.randn(2, 2, 8, 8)
    with torch.no_grad():
        assert distance(to_neuralop(ours)(x), ours(x)) <= 1e-5


def test_what_has_no_counterpart_is_refused():
    with pytest.raises(ValueError, match="complex_data=True cannot be converted"):
        from_neuralop(TheirFNO((4, 4), 1, 1, 4, complex_data=True))
    with pytest.raises(ValueError, match="complex_data=True cannot be converted"):
        to_neuralop(FNO((4, 4), 1, 1, 4, complex_data=True))
    with pytest.raises(ValueError, match="only neuraloperator's FNO and TFNO can be converted, got a Linear"):
        from_neuralop(torch.nn.Linear(1, 1))
    with pytest.raises(ValueError, match="fno_block_precision='half' has no counterpart"):
        from_neuralop(TheirFNO((4, 4), 1, 1, 4, fno_block_precision="half"))
    increments = FNO((4, 4), 1, 1, 4)
    increments.normalizer.set([0.0], [1.0], [0.0], [1.0], increment=True)
    with pytest.raises(ValueError, match="predicts increments"):
        to_neuralop(increments)


def test_unknown_missing_and_misshapen_tensors_are_named():
    state = TheirFNO(**SMALL).state_dict()
    with pytest.raises(ValueError, match="unknown are extra.weight; missing are none"):
        from_neuralop({**state, "extra.weight": torch.zeros(1)})
    with pytest.raises(ValueError, match=r"missing are fno_blocks\.channel_mlp\.1\.fcs\.1\.bias"):
        from_neuralop({k: v for k, v in state.items() if k != "fno_blocks.channel_mlp.1.fcs.1.bias"})
    with pytest.raises(ValueError, match=r"projection\.fcs\.0\.bias has shape \(3,\)"):
        from_neuralop({**state, "projection.fcs.0.bias": torch.zeros(3)})
    with pytest.raises(ValueError, match="no state dict of neuraloperator's FNO: it has no fno_blocks"):
        from_neuralop({"conv.weight": torch.zeros(1)})
    with pytest.raises(ValueError, match="hidden_channels"):
        from_neuralop(state, hidden_channels=8)


def test_conversion_leaves_no_warning_filters():
    code = """
import warnings, torch, opflow
from opflow.interop import to_neuralop
before = list(warnings.filters)
model = opflow.FNO((4, 4), 1, 1, 4, factorization="tucker", rank=0.5)
to_neuralop(model)
opflow.build("neuralop:FNO", n_modes=(4, 4), in_channels=1, out_channels=1, hidden_channels=4)
assert warnings.filters == before, warnings.filters[:3]
"""
    subprocess.run([sys.executable, "-c", code], check=True)
