"""Flows at the edges of use: empty batches, a bad first one, half precision, graphs, several processes."""

import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from opflow.flows import FieldFlow, ImageFlow
from opflow.flows.stability import worst_growth
from opflow.flows.table import COUPLINGS, LAYERS
from opflow.kernels import causal_convolve
from opflow.nn.invertible import ActNorm, AffineCoupling, PointwiseConv, SplineCoupling, pointwise


def field_flow(layer: str = "finc", coupling: str = "affine", **options) -> FieldFlow:
    torch.manual_seed(0)
    return FieldFlow((1, 8, 8), 1, 2, layer, 8, coupling=coupling, **options)


def scattered(flow, std: float = 0.1):
    torch.manual_seed(1)
    for p in flow.parameters():
        p.data += std * torch.randn_like(p)
    return flow


@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize("coupling", COUPLINGS)
def test_empty_batches_pass_and_leave_no_trace(layer, coupling):
    empty, x = torch.zeros(0, 1, 8, 8), torch.randn(16, 1, 8, 8)
    flow, other = field_flow(layer, coupling), field_flow(layer, coupling)
    assert flow.log_prob(empty).shape == (0,) and flow.losses(empty, empty).shape == (0,)
    assert flow.decode(torch.zeros(0, 64)).shape == empty.shape
    for each in (flow, other):
        each.log_prob(x)  # sets ActNorm
    assert torch.equal(flow.eval().log_prob(x), other.eval().log_prob(x))


@pytest.mark.parametrize("dequantization", ["uniform", "variational"])
def test_empty_batches_of_images(dequantization):
    flow = ImageFlow((1, 8, 8), 1, 1, hidden_channels=4, condition=3, dequantization=dequantization)
    empty, labels = torch.zeros(0, 1, 8, 8).long(), torch.zeros(0).long()
    assert flow.bits_per_dim(empty, labels).shape == (0,)
    assert flow.losses(torch.zeros(0, 1), empty.float()).shape == (0,)
    assert flow.sample(0, cond=labels).shape == (0, 1, 8, 8)


@pytest.mark.parametrize("layer", LAYERS)
def test_data_that_are_refused_leave_no_trace_in_actnorm(layer):
    flow, x = field_flow(layer), torch.randn(16, 1, 8, 8)
    bad = x.clone()
    bad[3, 0, 2, 2] = torch.nan
    with pytest.raises(ValueError, match="1 values are not finite; remove them"):
        flow.log_prob(bad)
    assert torch.isfinite(flow.log_prob(x)).all()
    with pytest.raises(TypeError, match="weights in torch.float32, got data in torch.float64"):
        flow.log_prob(x.double())


@pytest.mark.parametrize("coupling", COUPLINGS)
@pytest.mark.parametrize("layer", LAYERS)
def test_under_autocast_log_determinants_are_those_of_the_map(layer, coupling):
    """Networks are rounded, but not what they scale by, nor matrices: x -> z -> x stays exact."""
    flow = scattered(field_flow(layer, coupling)).eval()
    x = torch.randn(8, 1, 8, 8)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        z, logdet = flow(x)
        back, inverse_logdet = flow.inverse(z)
    assert z.dtype == torch.float32
    # Where the input of a network moved over an edge of bfloat16, all behind it moved by one rounding.
    assert (back - x).abs().median() < 1e-5 and (logdet + inverse_logdet).abs().median() < 1e-3
    plain = flow.log_prob(x)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        assert (flow.log_prob(x) - plain).abs().max() < 0.01 * 64


@pytest.mark.parametrize("make", [AffineCoupling, SplineCoupling])
def test_a_coupling_under_autocast_has_the_determinant_of_its_slopes(make):
    torch.manual_seed(0)
    layer = scattered(make(4, 8), std=0.3)
    x = torch.randn(2, 4, 3, 3, requires_grad=True)
    with torch.autocast("cpu", torch.bfloat16):
        z, logdet = layer(x)
    # The second half depends on itself point by point.
    slopes = torch.autograd.grad(z[:, 2:].sum(), x)[0][:, 2:]
    torch.testing.assert_close(logdet, slopes.log().sum((1, 2, 3)), atol=1e-4, rtol=1e-5)


def test_a_matrix_under_autocast_is_undone():
    torch.manual_seed(0)
    conv, x = PointwiseConv(12, actnorm=True), torch.randn(2, 12, 4, 4)
    with torch.autocast("cpu", torch.bfloat16):
        z, _ = conv(x)
        torch.testing.assert_close(conv.inverse(z)[0], x, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(conv.eval()(x)[0], z)


def test_a_matrix_is_undone_where_libraries_round_convolutions(monkeypatch):
    """As on GPUs, whose convolutions drop digits of float32; products of matrices do not."""
    torch.manual_seed(0)
    conv, x = PointwiseConv(12, actnorm=True), torch.randn(2, 12, 4, 4)
    z, expected = conv(x)[0], conv.inverse(x)[0]
    for module in (pointwise, causal_convolve):
        monkeypatch.setattr(module, "rounds_convolutions", lambda x: True)
    monkeypatch.setattr(pointwise, "conv2d", None)
    torch.testing.assert_close(conv(x)[0], z, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(conv.inverse(x)[0], expected, atol=1e-5, rtol=1e-5)


class Direction(torch.nn.Module):
    def __init__(self, flow, name):
        super().__init__()
        self.flow, self.name = flow, name

    def forward(self, x, cond):
        return getattr(self.flow, self.name)(x, cond)


@pytest.mark.parametrize("name", ["encode", "decode", "log_prob"])
def test_both_directions_are_one_graph(name):
    flow = ImageFlow((1, 8, 8), 1, 1, "finc", 8, condition=3).eval()
    module, x, label = Direction(flow, name), torch.rand(4, 1, 8, 8), torch.tensor([0, 2, 1, 1])
    x = flow.encode(x, label).detach() if name == "decode" else x
    expected = module(x, label)
    exported = torch.export.export(module, (x, label)).module()
    torch.testing.assert_close(exported(x, label), expected)
    compiled = torch.compile(module, fullgraph=True, backend="eager")
    torch.testing.assert_close(compiled(x, label), expected)


@pytest.mark.parametrize("layer", LAYERS)
def test_gradients_of_each_sample_by_vmap(layer):
    flow, x = scattered(field_flow(layer)).double().eval(), torch.randn(3, 1, 8, 8, dtype=torch.float64)

    def logdet(parameters, one):
        return torch.func.functional_call(flow, parameters, (one[None],))[1].sum()

    parameters = dict(flow.named_parameters())
    found = torch.func.vmap(torch.func.grad(logdet), (None, 0))(parameters, x)
    for i, one in enumerate(x):
        flow.zero_grad()
        flow(one[None])[1].sum().backward()
        for name, p in parameters.items():
            expected = torch.zeros_like(p) if p.grad is None else p.grad
            torch.testing.assert_close(found[name][i], expected, atol=1e-10, rtol=1e-8)
    scores = torch.func.vmap(torch.func.grad(lambda one: flow.log_prob(one[None]).sum()))(x)
    x.requires_grad_()
    torch.testing.assert_close(scores, torch.autograd.grad(flow.log_prob(x).sum(), x)[0])


def test_weights_that_are_not_finite_are_named_before_a_solve_refuses_them():
    flow = field_flow().eval()
    next(flow.body.causal_weights())[1].taps.data.fill_(torch.nan)
    with pytest.raises(FloatingPointError, match=r"weight.taps among them. To avoid it, lower the learning"):
        flow.sample(2)


def test_the_worst_layer_is_found_behind_one_that_overflows():
    flow = field_flow(gain_bound=None).eval()
    weights = [weight for _, weight, _ in flow.body.causal_weights()]
    weights[0].growth = lambda grid: float("nan")
    assert worst_growth(flow.body) == (float("inf"), "level 0, 0")


REFUSED = [
    (
        lambda: ImageFlow((3, 7, 7), levels=0, dequantization="variational"),
        r"both sides should be even, got \(7, 7\): pad or crop, or take uniform noise",
    ),
    (lambda: field_flow().sample(-1), "number of samples must not be negative, got -1"),
    (lambda: field_flow().sample(1, temperature=float("nan")), "temperature must not be negative, got nan"),
    (lambda: field_flow(condition=0), "condition=0: expected a number of classes"),
    (lambda: field_flow(condition=(0,)), r"condition=\(0,\): expected a number of classes"),
    (lambda: SplineCoupling(4, 8, bins=200), "between 2 and 50, got 200"),
    (
        lambda: ImageFlow((1, 8, 8), steps=1).bits_per_dim(torch.zeros(1, 1, 8, 8).long(), draws=0),
        "draws must be at least 1, got 0",
    ),
]


@pytest.mark.parametrize("attempt, words", REFUSED, ids=[words for _, words in REFUSED])
def test_what_cannot_be_is_refused(attempt, words):
    with pytest.raises(ValueError, match=words):
        attempt()


_PROCESS = """
import sys, torch
from opflow.nn.invertible import ActNorm
rank, port, folder = int(sys.argv[1]), sys.argv[2], sys.argv[3]
torch.distributed.init_process_group("gloo", f"tcp://localhost:{port}", rank=rank, world_size=2)
x = torch.load(f"{folder}/x.pt")
norm = ActNorm(3)
norm(x[:5] if rank == 0 else x[5:])
torch.save(norm.state_dict(), f"{folder}/{rank}.pt")
torch.distributed.destroy_process_group()
"""


def test_processes_set_actnorm_together(tmp_path):
    """Each sees part of the first batch; all must start with the same parameters, those of the whole."""
    x = torch.randn(16, 3, 4, 4) * torch.tensor([1.0, 5.0, 0.2])[:, None, None] + 3
    torch.save(x, tmp_path / "x.pt")
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    root = str(Path(__file__).parents[1])
    words = [sys.executable, "-c", _PROCESS]
    running = [subprocess.Popen([*words, str(rank), str(port), str(tmp_path)], cwd=root) for rank in range(2)]
    assert [process.wait(timeout=90) for process in running] == [0, 0]
    whole = ActNorm(3)
    whole(x)
    states = [torch.load(tmp_path / f"{rank}.pt") for rank in range(2)]
    for name, value in whole.state_dict().items():
        assert torch.equal(states[0][name], states[1][name])
        torch.testing.assert_close(states[0][name], value, atol=1e-5, rtol=1e-5)
