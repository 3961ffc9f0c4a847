"""Kernels against their definitions: compiled ones in float32 against references in float64."""

import warnings

import numpy as np
import pytest
import torch
from numba import njit
from scipy.special import erf
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx.experimental.proxy_tensor import make_fx
from torch.utils.flop_counter import FlopCounterMode

from opflow import FNO
from opflow.kernels import dft, memory
from opflow.kernels.backend import runs_compiled
from opflow.kernels.channel_mlp import channel_mlp, channel_mlp_reference
from opflow.kernels.cpu import gelu as cpu_gelu
from opflow.kernels.cpu import products, team
from opflow.kernels.cpu.gemm import multiply
from opflow.kernels.fno_layer import fno_layer, fno_layer_reference
from opflow.kernels.modes import multiply_modes


def close(a, b, tolerance=2e-6):
    assert a.shape == b.shape
    assert (a - b).norm() <= tolerance * b.norm() + 1e-7


@njit
def run(*arguments):
    multiply(*arguments)


def at(array):
    return array.ctypes.data


@pytest.mark.parametrize("m", [1, 3, 4, 6, 11, 12, 13, 29])
@pytest.mark.parametrize("n", [1, 7, 8, 9, 16, 17, 31, 40])
def test_products_of_any_size_touch_nothing_else(m, n):
    rng = np.random.default_rng(0)
    for k in (1, 5, 20):
        a, b, start = (rng.standard_normal(s, dtype=np.float32) for s in ((m, k), (k, n + 3), (m, n)))
        for start_at, start_row, s in ((0, 0, 0), (at(start), n, start), (at(start), 0, start[0])):
            for left, row, col in ((a, k, 1), (a.T.copy(), 1, m)):  # rows or columns of A together
                c = np.full((m + 1, n + 2), 7, np.float32)
                run(at(c), n + 2, at(left), row, col, at(b), n + 3, m, n, k, start_at, start_row)
                exact = s + a.astype(float) @ b[:, :n].astype(float)
                np.testing.assert_allclose(c[:m, :n], exact, rtol=0, atol=2e-5)
                assert (c[m:] == 7).all() and (c[:, n:] == 7).all()


def test_gelu_and_its_slope_to_the_last_digits():
    x = np.concatenate([np.linspace(-12, 12, 40001), [-1e30, 1e30, 0]]).astype(np.float32)
    exact = x.astype(float)
    phi = (1 + erf(exact / np.sqrt(2))) / 2
    y, in_place, slope, ones = np.empty_like(x), x.copy(), x.copy(), np.ones_like(x)
    cpu_gelu.gelu(at(x), at(y), x.size)
    cpu_gelu.gelu_in_place(at(in_place), x.size)
    cpu_gelu.slope_times(at(slope), at(ones), x.size)
    np.testing.assert_array_equal(in_place, y)
    np.testing.assert_allclose(y, exact * phi, rtol=2e-7, atol=8e-7)
    assert (y[exact < -5.5] == 0).all()
    with np.errstate(over="ignore"):
        density = np.exp(-(exact**2) / 2) / np.sqrt(2 * np.pi)
    np.testing.assert_allclose(slope, phi + exact * density, rtol=0, atol=5e-7)


def test_gelu_passes_on_what_is_not_a_number():
    x = np.array([np.nan, 1.0, np.inf], np.float32)
    y = np.empty_like(x)
    cpu_gelu.gelu(at(x), at(y), 3)
    assert np.isnan(y[0]) and np.isfinite(y[1]) and y[2] == np.inf


@pytest.mark.parametrize("batch, m, k, n", [(1, 3, 5, 300), (7, 48, 20, 33), (200, 6, 9, 4)])
def test_batched_products(batch, m, k, n):
    torch.manual_seed(0)
    a, b = torch.randn(m, k), torch.randn(batch, k, n)
    exact = a.double() @ b.double()
    out = products.bmm(a, b, torch.empty(batch, m, n))
    close(out, exact)
    close(products.bmm(a.T.contiguous().T, b, out, accumulate=True), 2 * exact)


@pytest.mark.parametrize("batch, modes, n_in, n_out", [(1, 3, 5, 7), (4, 60, 20, 20)])
def test_products_of_modes_and_their_adjoints(batch, modes, n_in, n_out):
    torch.manual_seed(0)
    x, weight = torch.randn(batch, 2, modes, n_in), torch.randn(modes, n_in, 2, n_out)
    exact = [t.double().requires_grad_() for t in (x, weight)]
    z, w = (torch.complex(*t.unbind(axis)) for t, axis in zip(exact, (1, 2)))
    y = torch.einsum("bmi,mio->bmo", z, w)
    y = torch.stack([y.real, y.imag], 1)
    torch.testing.assert_close(multiply_modes(*exact), y)
    with torch.no_grad():
        close(multiply_modes(x, weight), y)
    direction = torch.randn_like(x[..., :1].expand(*x.shape[:3], n_out))
    grads = products.multiply_modes_backward(direction.contiguous(), x, weight)
    for a, b in zip(grads, torch.autograd.grad(y, exact, direction.double())):
        close(a, b)


def layer_inputs(batch, grid, n_modes, channels, hidden, local=False):
    torch.manual_seed(0)
    slots = [(-(m // 2), m) for m in n_modes[:-1]] + [(0, n_modes[-1] // 2 + 1)]
    modes = 1
    for _, count in slots:
        modes *= count
    shapes = [(batch, *grid, channels), (modes, channels, 2, channels), (channels,), (channels, channels)]
    shapes += [(hidden, channels), (hidden,), (channels, hidden), (channels,), (channels,)]
    shapes += [shapes[0]] * local  # what local kernels add
    inputs = [torch.randn(s) / s[-1] ** 0.5 for s in shapes]
    return slots, [t.requires_grad_() for t in inputs]


def exactly(function, inputs, direction=None):
    """Value of a reference in float64, and gradients when a direction is given."""
    inputs = [t.detach().double().requires_grad_(t.requires_grad) for t in inputs]
    out = function(*inputs)
    live = [t for t in inputs if t.requires_grad]
    return out, torch.autograd.grad(out, live, direction.double()) if direction is not None else None


LAYERS = [
    (1, (9,), (4,), 4, 3),
    (2, (130,), (20,), 9, 5),
    (3, (7, 10), (4, 6), 20, 10),
    (2, (8, 8), (3, 5), 32, 16),
    (1, (33, 5), (8, 4), 8, 4),
    (40, (3, 70), (2, 6), 17, 30),
    (2, (5, 6, 7), (2, 4, 6), 6, 3),
]


@pytest.mark.parametrize("local", [False, True])
@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize("batch, grid, n_modes, channels, hidden", LAYERS)
def test_the_fused_layer_is_its_reference(batch, grid, n_modes, channels, hidden, last, local):
    slots, inputs = layer_inputs(batch, grid, n_modes, channels, hidden, local)
    assert runs_compiled(*inputs)
    out = fno_layer(*inputs, slots=slots, last=last)
    direction = torch.randn_like(out)
    exact, exact_grads = exactly(
        lambda *t: fno_layer_reference(*t, slots=slots, last=last), inputs, direction
    )
    close(out, exact)
    for grad, reference in zip(torch.autograd.grad(out, inputs, direction), exact_grads):
        close(grad, reference)
    with torch.no_grad():
        assert torch.equal(fno_layer(*inputs, slots=slots, last=last), out)


@pytest.mark.parametrize("local", [False, True])
@pytest.mark.parametrize("last", [False, True])
def test_second_derivatives_and_second_passes_of_the_fused_layer(last, local):
    slots, inputs = layer_inputs(2, (5, 6), (2, 4), 3, 2, local)

    def penalty(layer, inputs):
        (g,) = torch.autograd.grad(
            layer(*inputs, slots=slots, last=last).sin().sum(), inputs[0], create_graph=True
        )
        return torch.autograd.grad(g.square().sum(), inputs[:7])

    exact = penalty(fno_layer_reference, [t.detach().double().requires_grad_() for t in inputs])
    for a, b in zip(penalty(fno_layer, inputs), exact):
        close(a, b, 1e-5)
    out = fno_layer(*inputs, slots=slots, last=last).sum()
    first = torch.autograd.grad(out, inputs, retain_graph=True)
    for a, b in zip(torch.autograd.grad(out, inputs), first):
        close(a, b)


@pytest.mark.parametrize("grid, n_modes", [((5,), (4,)), ((3, 4), (2, 3))])
@pytest.mark.parametrize("last", [False, True])
def test_first_and_second_derivatives_of_the_reference(grid, n_modes, last):
    slots, inputs = layer_inputs(1, grid, n_modes, 2, 2, local=last)
    inputs = [t.detach().double().requires_grad_() for t in inputs]
    assert not runs_compiled(*inputs)
    assert torch.autograd.gradcheck(lambda *t: fno_layer(*t, slots=slots, last=last), inputs)
    assert torch.autograd.gradgradcheck(lambda *t: fno_layer(*t, slots=slots, last=last), inputs)


@pytest.mark.parametrize("frozen", [[0], [1, 3], [0, 1, 2, 3, 4, 5, 6, 7]])
def test_the_fused_layer_with_some_inputs_frozen(frozen):
    slots, inputs = layer_inputs(2, (6, 5), (4, 4), 5, 4)
    inputs = [t.detach() if i in frozen else t for i, t in enumerate(inputs)]
    out = fno_layer(*inputs, slots=slots, last=False)
    direction = torch.randn_like(out)
    _, exact = exactly(lambda *t: fno_layer_reference(*t, slots=slots, last=False), inputs, direction)
    for a, b in zip(torch.autograd.grad(out, [t for t in inputs if t.requires_grad], direction), exact):
        close(a, b)


@pytest.mark.parametrize("shapes", [((2, 5, 7, 3), 4, 2), ((1, 1), 1, 1), ((3, 700, 33), 70, 17)])
def test_the_fused_channel_mlp_is_its_reference(shapes):
    torch.manual_seed(0)
    (*points, n_in), hidden, n_out = shapes[0], *shapes[1:]
    sizes = [(*points, n_in), (hidden, n_in), (hidden,), (n_out, hidden), (n_out,)]
    inputs = [torch.randn(s).requires_grad_() for s in sizes]
    out = channel_mlp(*inputs)
    direction = torch.randn_like(out)
    exact, exact_grads = exactly(channel_mlp_reference, inputs, direction)
    close(out, exact)
    for a, b in zip(torch.autograd.grad(out, inputs, direction), exact_grads):
        close(a, b)
    exact = [t.detach().double().requires_grad_() for t in inputs]

    def penalty(function, inputs):
        (g,) = torch.autograd.grad(function(*inputs).sin().sum(), inputs[1], create_graph=True)
        return torch.autograd.grad(g.square().sum(), inputs[:4])

    if len(points) > 1 and hidden < 10:
        for a, b in zip(penalty(channel_mlp, inputs), penalty(channel_mlp_reference, exact)):
            close(a, b, 1e-5)


def test_bits_do_not_depend_on_the_number_of_threads(monkeypatch):
    slots, inputs = layer_inputs(5, (30, 20), (8, 6), 12, 7)
    threads = torch.get_num_threads()
    results = []
    try:
        for n, parallel in ((1, None), (2, team._parallel), (3, None)):
            monkeypatch.setattr(
                team, "_parallel", parallel
            )  # None: threads of Python, where OpenMP is not GNU's
            torch.set_num_threads(n)
            out = fno_layer(*inputs, slots=slots, last=False)
            results.append((out, *torch.autograd.grad(out.square().sum(), inputs)))
    finally:
        torch.set_num_threads(threads)
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other))


def test_what_does_not_fit_is_refused_and_never_read():
    slots, inputs = layer_inputs(1, (4, 4), (2, 2), 4, 3)
    with pytest.raises(RuntimeError, match="shapes|size|batch2"):
        fno_layer(inputs[0][..., :3], *inputs[1:], slots=slots, last=False)
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        channel_mlp(torch.randn(2, 3), *(torch.randn(s) for s in ((4, 5), (4,), (1, 4), (1,))))
    with pytest.raises(RuntimeError, match="dtype"):
        channel_mlp(torch.randn(2, 3), *(torch.randn(s).double() for s in ((4, 3), (4,), (1, 4), (1,))))


def test_transforms_of_functions_take_the_reference():
    x, weights = torch.randn(5, 2, 3), [torch.randn(s) for s in ((4, 3), (4,), (1, 4), (1,))]
    mapped = torch.func.vmap(lambda v: channel_mlp(v, *weights))(x)
    torch.testing.assert_close(mapped, channel_mlp(x, *weights))
    slopes = torch.func.grad(lambda v: channel_mlp(v, *weights).sum())(x)
    y = x.clone().requires_grad_()
    torch.testing.assert_close(slopes, torch.autograd.grad(channel_mlp(y, *weights).sum(), y)[0])


def model_and_input(n_modes=(4, 4), grid=(6, 7), **options):
    torch.manual_seed(0)
    return FNO(n_modes, 1, 1, 6, n_layers=2, **options), torch.randn(3, 1, *grid)


def test_gradients_through_a_rollout_and_tied_weights_with_and_without_a_graph():
    model, x = model_and_input()
    weights = list(model.parameters())
    loss = model(model(model(x))).square().sum()
    plain = torch.autograd.grad(loss, weights, retain_graph=True)
    for kind in ({"create_graph": True}, {}):  # then a second pass
        for a, b in zip(torch.autograd.grad(loss, weights, retain_graph=True, **kind), plain):
            close(a, b, 1e-5)
    tied = torch.randn(3, 3, requires_grad=True), torch.randn(3, requires_grad=True)
    y = channel_mlp(torch.randn(5, 3), *tied, *tied).sum()
    plain = torch.autograd.grad(y, tied, retain_graph=True)
    for a, b in zip(torch.autograd.grad(y, tied, create_graph=True), plain):
        close(a, b)


def test_a_backward_pass_in_other_circumstances_than_the_forward_pass():
    slots, inputs = layer_inputs(2, (6, 5), (4, 4), 5, 4)

    def gradients():
        return torch.autograd.grad(fno_layer(*inputs, slots=slots, last=False).square().sum(), inputs)

    plain = gradients()
    loss = fno_layer(*inputs, slots=slots, last=False).square().sum()
    with torch.autocast("cpu", torch.bfloat16):
        for a, b in zip(torch.autograd.grad(loss, inputs), plain):
            close(a, b)

    def turned(t):  # the same numbers in another order of memory
        return t.mT.contiguous().mT if t.ndim > 1 else t

    with torch.autograd.graph.saved_tensors_hooks(lambda t: t.clone(), turned):
        for a, b in zip(gradients(), plain):
            close(a, b)
    mlp = torch.nn.Linear(3, 4), torch.nn.Linear(4, 1)
    x = torch.randn(5, 3, requires_grad=True)
    y = channel_mlp(x, mlp[0].weight, mlp[0].bias, mlp[1].weight, mlp[1].bias).sum()
    mlp[0].bfloat16()
    with pytest.raises(RuntimeError, match="dtype"):
        torch.autograd.grad(y, x)


@pytest.mark.parametrize("n_modes, grid", [((6,), (20,)), ((4, 4), (9, 8))])
def test_a_frozen_model_is_the_same_with_gradients_on_and_off(n_modes, grid):
    model, x = model_and_input(n_modes, grid)
    model.requires_grad_(False)
    with torch.no_grad():
        expected = model(x)
    assert torch.equal(model(x), expected)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # TorchScript is on its way out
def test_who_traces_counts_or_differentiates_forward_gets_the_reference():
    model, x = model_and_input()
    with torch.no_grad():
        expected = model(x)
        with FlopCounterMode(display=False) as counter:
            close(model(x), expected)
        assert counter.get_total_flops() > 1e5
        close(make_fx(model)(x)(x), expected)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Python values that the tracer takes as constants
            traced = torch.jit.trace(model, x, check_trace=False)
        close(traced(x), expected)
        with torch.autograd.forward_ad.dual_level():
            y = torch.autograd.forward_ad.make_dual(x, torch.ones_like(x))
            slope = torch.autograd.forward_ad.unpack_dual(model(y)).tangent
    difference = (model.double()(x.double() + 1e-6) - model(x.double() - 1e-6)) / 2e-6
    close(slope, difference, 1e-4)
    weights = [torch.randn(s) for s in ((4, 3), (4,), (1, 4), (1,))]
    v = torch.randn(5, 3)
    close(channel_mlp(torch._neg_view(v), *weights), channel_mlp(-v, *weights))
    v.requires_grad_()
    y = channel_mlp(v, *weights)
    rows = torch.autograd.grad(y, v, torch.eye(5).view(5, 5, 1), is_grads_batched=True, retain_graph=True)[0]
    close(rows.sum(0), torch.autograd.grad(y.sum(), v)[0])


def test_fake_tensors_leave_nothing_behind():
    with FakeTensorMode():
        assert model_and_input(grid=(14, 15))[0](torch.zeros(2, 1, 14, 15)).shape == (2, 1, 14, 15)
    model, x = model_and_input(grid=(14, 15))
    close(model(x), model.double()(x.double()))


def test_hooks_and_later_dropout_are_seen():
    model, x = model_and_input()
    expected = model(x)
    seen = []
    block = model.blocks[0]
    for part in (block.conv, block.skip, block.mlp, block.mlp.first, block.mlp_skip, model.lifting.first):
        part.register_forward_hook(lambda module, inputs, output: seen.append(type(module).__name__))
    close(model(x), expected)
    assert len(seen) == 6
    model, x = model_and_input()
    model.blocks[1].mlp.dropout.p = 0.5
    assert not torch.equal(model(x), model(x))


def test_sums_over_a_million_points_keep_their_digits():
    torch.manual_seed(0)
    inputs = [torch.randn(s).requires_grad_() for s in ((1 << 20, 2), (3, 2), (3,), (1, 3), (1,))]
    out = channel_mlp(*inputs)
    direction = torch.full_like(out, 0.1)
    _, exact = exactly(channel_mlp_reference, inputs, direction)
    for a, b in zip(torch.autograd.grad(out, inputs, direction), exact):
        close(a, b, 1e-5)
    slots, inputs = layer_inputs(2, (256, 512), (2, 2), 3, 2)
    out = fno_layer(*inputs, slots=slots, last=True)
    _, exact = exactly(
        lambda *t: fno_layer_reference(*t, slots=slots, last=True), inputs, torch.full_like(out, 0.1)
    )
    for a, b in zip(torch.autograd.grad(out, inputs, torch.full_like(out, 0.1)), exact):
        close(a, b, 1e-5)


def test_the_pool_keeps_no_more_than_its_limit(monkeypatch):
    monkeypatch.setattr(memory, "_MOST_IDLE", 1 << 20)
    monkeypatch.setattr(memory, "_idle", {})
    for floats in (1 << 19, 1 << 17, 3 << 16):  # too large, half of the limit, then more than what is left
        memory.empty((floats,), torch.zeros(()))
    assert sum(size * len(blocks) for size, blocks in memory._idle.items()) == 3 << 18


def test_no_samples_give_no_samples():
    slots, inputs = layer_inputs(0, (4, 4), (2, 2), 4, 3)
    out = fno_layer(*inputs, slots=slots, last=False)
    assert out.shape == (0, 4, 4, 4)
    assert all((g == 0).all() for g in torch.autograd.grad(out.sum(), inputs))


@pytest.mark.parametrize("grid", [(9,), (8, 11)])
def test_compiled_transforms_are_the_plain_ones(grid):
    torch.manual_seed(0)
    slots = [(-2, 4), (0, 3)][-len(grid) :]
    x = torch.randn(3, *grid, 5)
    with torch.no_grad():
        spectrum = dft.analyse(x, slots)
        back = dft.synthesise(spectrum, slots, grid)
        close(spectrum, dft.analyse(x.double(), slots))
        close(back, dft.synthesise(spectrum.double(), slots, grid))
