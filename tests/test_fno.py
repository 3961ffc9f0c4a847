"""The FNO: symmetry, grids, options, derivatives, compilation, errors."""

import itertools

import pytest
import torch
from torch.nn import functional as F

from opflow import FNO, build
from opflow.kernels import dft
from opflow.nn.channel_mlp import ChannelMLP

SMALL = dict(in_channels=2, out_channels=1, hidden_channels=6, n_layers=2)


def small(n_modes=(4, 4), seed=0, **options):
    torch.manual_seed(seed)
    return FNO(n_modes, **{**SMALL, **options})


@pytest.mark.parametrize("grid", [(16,), (9, 14), (6, 7, 8)])
def test_commutes_with_translations_without_embedding(grid):
    model = small((4,) * len(grid), positional_embedding=None).double()
    x = torch.randn(2, 2, *grid).double()
    shifts, axes = tuple(range(1, len(grid) + 1)), tuple(range(2, len(grid) + 2))
    torch.testing.assert_close(model(x.roll(shifts, axes)), model(x).roll(shifts, axes), rtol=0, atol=1e-12)


def test_the_embedding_breaks_that_symmetry():
    model, x = small(), torch.randn(2, 2, 8, 8)
    assert (model(x.roll(3, -1)) - model(x).roll(3, -1)).abs().max() > 1e-3


def test_refining_the_grid_converges_to_one_function():
    """Pointwise layers create modes that a grid cannot hold; what is left of that must vanish quickly."""
    model = small((4,), positional_embedding=None, non_linearity="tanh", use_channel_mlp=False).double()
    values = []
    for n in (16, 33, 64, 128, 512):
        points = 2 * torch.pi * torch.arange(n, dtype=torch.float64) / n
        x = 0.3 * torch.stack([torch.sin(points), torch.cos(2 * points + 1)])[None]
        values.append(model(x)[0, 0, 0].item())
    errors = [abs(v - values[-1]) for v in values[:-1]]
    assert errors[0] > 1e-10 and errors[1] < errors[0] / 30 and errors[2] < 1e-10 and errors[3] < 1e-13


def test_a_linear_fno_moves_a_band_limited_field_to_another_grid_exactly():
    options = dict(positional_embedding=None, non_linearity="identity", use_channel_mlp=False)
    model = small((8, 8), **options).double()
    grids = [(16, 17), (24, 13)]
    fields = []
    for h, w in grids:
        y = torch.arange(h, dtype=torch.float64)[:, None] / h
        x = torch.arange(w, dtype=torch.float64)[None] / w
        fields.append(torch.sin(2 * torch.pi * (2 * x - 3 * y)) + 0.5 * torch.cos(2 * torch.pi * (y + x)) + 1)
    a, b = (f.expand(1, 2, *f.shape) for f in fields)
    torch.testing.assert_close(model(a, out_grid=grids[1]), model(b), rtol=0, atol=1e-12)


@pytest.mark.parametrize("n_dim", [1, 2, 3])
def test_float32_agrees_with_float64(n_dim):
    model = small((4,) * n_dim).eval()
    x = torch.randn(1, 2, *(9, 12, 7)[:n_dim])
    y32 = model(x)
    y64 = model.double()(x.double())
    assert y64.dtype == torch.float64
    assert (y32 - y64).norm() / y64.norm() < 1e-5


@pytest.mark.parametrize("n, grid", [(16, (20,)), (17, (8,))])
def test_out_grid_predict_and_batch_axis(n, grid):
    model = small((4,)).train()
    x = torch.randn(3, 2, n)
    y = model.predict(x, out_grid=grid)
    assert model.training and not y.requires_grad and y.shape == (3, 1, *grid)
    torch.testing.assert_close(model.predict(x[1].numpy(), out_grid=grid), y[1])


def test_samples_of_a_batch_do_not_meet_and_results_keep_their_memory():
    model, x = small((8, 8), hidden_channels=16).eval(), torch.randn(3, 2, 96, 96)
    before = x.clone()
    with torch.no_grad():
        y = model(x)
        kept = y.clone()
        for i in range(3):
            torch.testing.assert_close(model(x[i : i + 1])[0], y[i], rtol=0, atol=1e-5)
    assert torch.equal(y, kept) and torch.equal(x, before)
    torch.testing.assert_close(model(x), y, rtol=0, atol=1e-5)  # the path with gradients


def test_domain_padding_keeps_the_grid_and_ends_periodicity():
    plain, padded = small(), small(domain_padding=0.25)
    padded.load_state_dict(plain.state_dict())
    x = torch.randn(2, 2, 10, 7)
    assert padded(x).shape == plain(x).shape == (2, 1, 10, 7)
    assert padded(x, out_grid=(20, 14)).shape == (2, 1, 20, 14)
    assert (padded(x) - plain(x)).abs().max() > 1e-3


@pytest.mark.parametrize(
    "factor, expected", [(2, (32, 28)), ([0.5, 2], (8, 8)), ([[1, 2], [2, 1]], (16, 14))]
)
def test_resolution_scaling_multiplies_the_grid_layer_by_layer(factor, expected):
    model = small(resolution_scaling_factor=factor)
    assert model(torch.randn(1, 2, 8, 7)).shape == (1, 1, *expected)


OPTIONS = [
    {},
    *({"norm": norm} for norm in ("instance_norm", "group_norm", "batch_norm")),
    *({"fno_skip": s, "channel_mlp_skip": t} for s, t in itertools.pairwise(("identity", None, "linear"))),
    *({"factorization": f, "rank": 0.5} for f in ("tucker", "cp", "tt")),
    {"preactivation": True, "norm": "group_norm", "stabilizer": "tanh"},
    {"separable": True, "non_linearity": F.silu, "use_channel_mlp": False},
    {"complex_data": True, "stabilizer": "tanh"},
    {"complex_data": True, "positional_embedding": None, "fno_skip": "identity", "domain_padding": 0.2},
    {"lifting_channel_ratio": 0, "projection_channel_ratio": 1, "channel_mlp_expansion": 1.0},
    {"max_n_modes": (6, 6), "channel_mlp_dropout": 0.1, "resolution_scaling_factor": [2, 0.5]},
]


def _readable(options: dict) -> str:
    return ", ".join(f"{name}={getattr(value, '__name__', value)}" for name, value in options.items())


@pytest.mark.parametrize("options", OPTIONS, ids=_readable)
def test_every_option_trains_every_parameter(options):
    model = small(**options)
    x = torch.randn(2, 2, 9, 8, dtype=torch.complex64 if options.get("complex_data") else torch.float32)
    y = model(x)
    assert y.shape == (2, 1, 9, 8) and y.dtype == x.dtype
    y.abs().square().sum().backward()
    still = [n for n, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    # A norm removes the means, and with them the constants added before it.
    means = {"instance_norm", "batch_norm"} if options.get("norm") != "group_norm" else set()
    if options.get("norm") in means:
        still = [n for n in still if not n.endswith("bias")]
    assert not still


@pytest.mark.parametrize("options", OPTIONS, ids=_readable)
def test_config_rebuilds_the_same_function(options):
    import json

    model = small(**options).eval()
    again = build("FNO", **json.loads(json.dumps(model.config))).eval()
    again.load_state_dict(model.state_dict())
    x = torch.randn(1, 2, 8, 8, dtype=torch.complex64 if options.get("complex_data") else torch.float32)
    assert torch.equal(again(x), model(x))


def test_complex_data_with_the_weights_of_a_real_map_is_that_map_on_each_part():
    options = dict(positional_embedding=None, non_linearity="identity", use_channel_mlp=False)
    real, model = small((4,), **options).double(), small((4,), complex_data=True, **options).double()
    state = {k: torch.stack([v, torch.zeros_like(v)], -1) for k, v in real.state_dict().items()}
    own = model.state_dict()
    model.load_state_dict(
        {k: state[k] if k in state and state[k].shape == own[k].shape else own[k] for k in own}
    )
    for block, real_block in zip(model.blocks, real.blocks):
        half = real_block.conv.dense_weight().detach()  # modes 0, 1, 2; those of a real kernel are Hermitian
        half[..., 0].imag.zero_()
        full = torch.cat([torch.zeros_like(half[..., 2:]), half[..., 1:2].conj(), half[..., :2]], -1)
        real_block.conv.load_dense_weight(torch.cat([half[..., :2], torch.zeros_like(half[..., 2:])], -1))
        block.conv.load_dense_weight(full)
        block.conv.bias.data.zero_()
        real_block.conv.bias.data.zero_()
    x = torch.randn(1, 2, 9, dtype=torch.complex128)
    constant = real(torch.zeros(1, 2, 9, dtype=torch.float64))
    expected = torch.complex(real(x.real), real(x.imag) - constant)
    torch.testing.assert_close(model(x), expected, rtol=0, atol=1e-12)


def test_derivatives_of_the_whole_model():
    model = small((3, 4), hidden_channels=3, in_channels=1, positional_embedding=None).double()
    x = torch.randn(1, 1, 4, 5, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(model, (x,), nondet_tol=1e-10)
    assert torch.autograd.gradgradcheck(model, (x,), nondet_tol=1e-10)


def test_the_fused_model_is_the_unfused_one():
    fused = small((6, 8))
    plain = small((6, 8)).double()
    plain.load_state_dict(fused.state_dict())
    for block in plain.blocks:
        block._fused = False
    for module in plain.modules():
        if isinstance(module, ChannelMLP):
            module.activation = lambda x: F.gelu(x)  # not the function that the fused path looks for
    x = torch.randn(2, 2, 9, 10)
    torch.testing.assert_close(fused(x).double(), plain(x.double()), rtol=0, atol=2e-6)
    fused(x).square().sum().backward()
    plain(x.double()).square().sum().backward()
    for a, b in zip(fused.parameters(), plain.parameters()):
        assert (a.grad - b.grad).norm() <= 2e-6 * b.grad.norm()


@pytest.mark.parametrize("n", [5, 8, 9])
def test_analysis_inverts_synthesis_on_resolved_modes(n):
    slots = [(-1, 3), (0, 2)]
    y = torch.randn(1, 2, 6, 3, dtype=torch.float64)
    back = dft.analyse(dft.synthesise(y, slots, (n, n)), slots)
    again = dft.analyse(dft.synthesise(back, slots, (n, n)), slots)
    torch.testing.assert_close(again, back, rtol=0, atol=1e-13)  # a projection: onto Hermitian columns
    torch.testing.assert_close(back[:, :, 1::2], y[:, :, 1::2], rtol=0, atol=1e-13)


# Compilation.


def test_compiles_as_one_graph():
    model = small((4, 4), n_layers=1, hidden_channels=4).eval()
    x = torch.randn(2, 2, 8, 9)
    report = torch._dynamo.explain(model)(x)
    assert report.graph_break_count == 0 and report.graph_count == 1
    torch._dynamo.reset()
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    y, expected = compiled(x), model(x)
    assert (y - expected).norm() / expected.norm() <= 1e-5
    grads = [torch.autograd.grad(f(x).square().sum(), list(model.parameters())) for f in (compiled, model)]
    for a, b in zip(*grads):
        assert (a - b).norm() <= 1e-5 * b.norm() + 1e-6
    torch._dynamo.reset()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # the compiler's own
@pytest.mark.parametrize(
    "options, dtype",
    [
        ({}, torch.float32),
        ({"norm": "instance_norm", "domain_padding": 0.25}, torch.float64),  # the norm magnifies rounding
        ({"factorization": "cp"}, torch.float32),
    ],
)
def test_compiled_code_agrees(options, dtype):
    model = FNO((8, 8), 1, 1, 16, **options).eval().to(dtype)
    x = torch.randn(2, 1, 16, 20, dtype=dtype)
    torch._dynamo.reset()
    assert torch._dynamo.explain(model)(x).graph_break_count == 0
    compiled = torch.compile(model, fullgraph=True)
    for size in ((2, 1, 16, 20), (3, 1, 24, 17)):
        x = torch.randn(size, dtype=dtype)
        y, expected = compiled(x), model(x)
        assert (y - expected).norm() / expected.norm() <= 1e-5
    torch._dynamo.reset()


# Errors.


def test_inputs_that_do_not_fit_are_named():
    model = small()
    with pytest.raises(
        ValueError, match=r"FNO was built for in_channels=2, got a tensor of shape \(8, 1, 9, 9\)"
    ):
        model(torch.zeros(8, 1, 9, 9))
    with pytest.raises(ValueError, match=r"built for 2 space dimensions and takes \(batch, 2, \*space\)"):
        model(torch.zeros(8, 2, 9))
    for wrong in (12, (12,)):
        with pytest.raises(ValueError, match=r"out_grid=.* needs one size per space axis, 2 of them"):
            model(torch.zeros(8, 2, 9, 9), out_grid=wrong)
    with pytest.raises(ValueError, match="the input is torch.float64 and the model torch.float32"):
        model(torch.zeros(8, 2, 9, 9).double())


@pytest.mark.parametrize(
    "options, words",
    [
        ({"non_linearity": "gleu"}, "non_linearity='gleu' is not one of gelu, relu, silu, tanh, identity"),
        ({"non_linearity": F.hardtanh}, "non_linearity='hardtanh' is not one of"),
        ({"positional_embedding": "gird"}, "positional_embedding='gird' is not one of 'grid', None"),
        ({"norm": "layer_norm"}, "norm='layer_norm' is not one of 'instance_norm', 'group_norm'"),
        ({"norm": "group_norm", "complex_data": True}, "defined for real data only; use norm=None"),
        ({"stabilizer": "tnah"}, "stabilizer='tnah' is not one of 'tanh', None"),
        ({"fno_skip": "liner"}, "skip='liner' is not one of 'linear', 'identity', 'soft-gating', None"),
        ({"max_n_modes": (2, 8)}, r"n_modes=\(4, 4\) exceed max_n_modes=\(2, 8\)"),
        ({"resolution_scaling_factor": [2]}, "one entry per layer, 2, got"),
        ({"n_modes": (4, 0)}, r"n_modes=\(4, 0\) needs one number of modes per space axis"),
        ({"n_modes": 16}, r"n_modes=16 needs one number of modes per space axis, such as \(16, 16\)"),
        ({"max_n_modes": (8,)}, r"max_n_modes=\(8,\) and n_modes=\(4, 4\) need the same length"),
        ({"resolution_scaling_factor": [[2], [2]]}, "needs one number, or one per space axis, 2 of them"),
        ({"domain_padding": [0.1]}, r"domain_padding=\[0.1\] needs one number, or one per space axis, 2"),
        ({"hidden_channels": 0}, "hidden_channels must be at least 1, got 0"),
        ({"fno_block_precision": "half"}, "fno_block_precision='half' is not supported, only 'full'"),
        ({"conv_module": F.gelu}, "conv_module=.* is not supported, only None"),
    ],
)
def test_options_that_do_not_exist_are_named(options, words):
    with pytest.raises(ValueError, match=words):
        small(**options)


def test_unknown_operators_are_answered_with_those_there_are():
    with pytest.raises(ValueError, match=r"no operator is called 'FON'; there are FNO, .*neuralop:<model>"):
        build("FON", n_modes=(4,))
    with pytest.raises(ValueError, match=r"neuraloperator has no model 'FON'; there are .*FNO"):
        build("neuralop:FON", in_channels=1, out_channels=1)
    model = build("neuralop:FNO", n_modes=(4,), in_channels=1, out_channels=1, hidden_channels=4)
    with pytest.raises(ValueError, match=r"on the grid of its input, \(8,\), not on \(16,\); resample"):
        model(torch.zeros(1, 1, 8), out_grid=(16,))
