"""Layers over a point group: slow definitions, equivariance, derivatives, statistics, published weights."""

import math

import numpy as np
import pytest
import torch
from torch.nn.functional import gelu, instance_norm, linear

from opflow import interop
from opflow.kernels import dft
from opflow.kernels.blocks import block_linear, walsh
from opflow.kernels.modes import multiply_modes
from opflow.kernels.normed_layer import normed_layer, normed_layer_reference, normed_spectrum
from opflow.nn import Normalizer
from opflow.nn.group_block import GroupBlock, PublishedGroupBlock
from opflow.nn.group_linear import GroupLifting, GroupLinear, GroupProjection
from opflow.nn.group_spectral import GroupSpectralConv
from opflow.nn.point_group import IDENTITY, PointGroup
from opflow.nn.representations import GROUPS, channel_matrix
from tests.turning import turn_field

NAMES = ("p4", "p4m")


def place(group, turn):
    return next(i for i, t in enumerate(group.turns) if torch.equal(t, turn))


def turn_grid(u, matrix):
    """Turn an array, whatever its channels are."""
    return turn_field(u, matrix, ["scalar"] * u.shape[1])


def turned(u, group, element):
    """Turn features: move space, and the slot g from where R^-1 g was."""
    slots = turn_grid(u, group.turns[element]).unflatten(1, (group.order, -1))
    inverse = place(group, group.turns[element].T)
    sources = [place(group, group.turns[inverse] @ turn) for turn in group.turns]
    return slots[:, sources].flatten(1, 2)


@pytest.mark.parametrize("name", NAMES)
def test_the_table_of_the_group(name):
    group = PointGroup.named(name)
    assert {tuple(t.flatten().tolist()) for t in group.turns} == {
        tuple(t.flatten().tolist()) for t in GROUPS[name]
    }
    quotients = group.quotients()
    for g in range(group.order):
        for h in range(group.order):
            assert torch.equal(group.turns[g] @ group.turns[quotients[g, h]], group.turns[h])
    order = group.order // group.blocks  # k c: the bits of the number of k multiply
    for k in range(group.blocks):
        for j in range(group.blocks):
            product = group.turns[k * order] @ group.turns[j * order]
            assert torch.equal(product, group.turns[(k ^ j) * order])
        for c in range(order):
            assert torch.equal(group.turns[k * order] @ group.turns[c], group.turns[k * order + c])


def by_definition(conv, u, group):
    """Turn and stack the kernels for every pair of slots, and convolve by one full complex FFT."""
    m, n_in, n_out, order = conv.halves[0], conv.in_channels, conv.out_channels, group.order
    theta = conv.weight.unflatten(0, (2 * m + 1, 2 * m + 1))
    kernel = torch.complex((theta + theta.flip(0, 1)) / 2, (theta.flip(0, 1) - theta) / 2)
    kernel = kernel.permute(3, 4, 2, 0, 1)  # (in, out, element, k, k)
    height, width = u.shape[2:]
    spectrum = torch.fft.fft2(u.unflatten(1, (order, n_in)))
    y = torch.zeros(len(u), order, n_out, height, width, dtype=spectrum.dtype)
    rows = torch.arange(-m, m + 1) % height
    columns = torch.arange(-m, m + 1) % width
    for g, turn in enumerate(group.turns):
        for h, other in enumerate(group.turns):
            w = turn_grid(kernel[:, :, place(group, turn.T @ other)], turn)
            x = spectrum[:, h][:, :, rows[:, None], columns]
            y[:, g, :, rows[:, None], columns] += torch.einsum("iokl,bikl->bokl", w, x)
    y = torch.fft.ifft2(y)
    assert y.imag.abs().max() < 1e-12
    return y.real.flatten(1, 2) + conv.bias.repeat(order)[:, None, None]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("grid", [(16, 16), (11, 14)])
def test_the_spectral_layer_is_its_definition(name, grid):
    group = PointGroup.named(name)
    torch.manual_seed(0)
    conv = GroupSpectralConv(2, 3, (9, 9), group).double()
    u = torch.randn(2, 2 * group.order, *grid, dtype=torch.float64)
    torch.testing.assert_close(conv(u), by_definition(conv, u, group), rtol=0, atol=1e-10)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("n", [32, 33, 64])
def test_layers_commute(name, n):
    group = PointGroup.named(name)
    torch.manual_seed(0)
    layers = [
        GroupSpectralConv(2, 2, (12, 12), group),
        GroupLinear(2, 2, group),
        GroupBlock(2, (12, 12), group, last=False),
        PublishedGroupBlock(2, (12, 12), group, last=True),
    ]
    u = torch.randn(2, 2 * group.order, n, n)
    for layer in layers:
        for dtype, tolerance in ((torch.float32, 1e-6), (torch.float64, 1e-12)):
            layer, u = layer.to(dtype), u.to(dtype)
            with torch.no_grad():
                y = layer(u)
                for element in range(group.order):
                    error = layer(turned(u, group, element)) - turned(y, group, element)
                    assert error.norm() <= tolerance * y.norm(), (type(layer), element)


@pytest.mark.parametrize("name", NAMES)
def test_lifting_and_projection_commute(name):
    group, kinds = PointGroup.named(name), ("vector", "pseudoscalar", "scalar")
    matrices = channel_matrix(kinds, group.turns)
    lifting, projection = GroupLifting(matrices, 3).double(), GroupProjection(3, matrices).double()
    assert (projection.bias is not None) and len(projection.bias) == (1 if name == "p4m" else 2)
    x = torch.randn(1, 4, 6, 6, dtype=torch.float64)
    u = torch.randn(1, 3 * group.order, 6, 6, dtype=torch.float64)
    for element, turn in enumerate(group.turns):
        lifted = lifting(turn_field(x, turn, kinds))
        torch.testing.assert_close(lifted, turned(lifting(x), group, element), rtol=0, atol=1e-13)
        y = projection(turned(u, group, element))
        torch.testing.assert_close(y, turn_field(projection(u), turn, kinds), rtol=0, atol=1e-13)


def test_parameters_of_the_layers():
    """K^2 real numbers per pair of channels and element, in space-time as many as a real kernel has."""
    for name in NAMES:
        group = PointGroup.named(name)
        assert GroupSpectralConv(2, 3, (8, 8), group).weight.numel() == 7**2 * 2 * 3 * group.order
        assert GroupSpectralConv(2, 3, (5, 5, 6), group).weight.numel() == 5**3 * 2 * 3 * group.order
        assert GroupLinear(2, 3, group).weight.numel() == 2 * 3 * group.order


@pytest.mark.parametrize("group", [*map(PointGroup.named, NAMES), IDENTITY], ids=lambda g: str(g.order))
def test_blocks_are_the_map(group):
    layer, x = GroupLinear(3, 5, group).double(), torch.randn(2, 3 * group.order, dtype=torch.float64)
    torch.testing.assert_close(
        block_linear(x, *layer.blocks()), linear(x, *layer.plain()), rtol=0, atol=1e-13
    )
    assert torch.equal(walsh(walsh(x, group.blocks), group.blocks), group.blocks * x) or group.blocks > 1
    twice = walsh(walsh(x, group.blocks), group.blocks)
    torch.testing.assert_close(twice, group.blocks * x, rtol=0, atol=1e-13)


def exact(function, inputs, direction):
    inputs = [t.detach().double().requires_grad_() for t in inputs]
    y = function(*inputs)
    return y, torch.autograd.grad(y, inputs, direction.double())


def close(a, b, tolerance=2e-6):
    assert (a - b).norm() <= tolerance * b.norm()


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("name, width, grid", [("p4", 5, (16, 16)), ("p4m", 4, (9, 70)), ("p4", 1, (6, 5))])
def test_compiled_product_of_modes(name, width, grid, threads):
    group = PointGroup.named(name)
    torch.manual_seed(0)
    conv = GroupSpectralConv(width, width, (9, 9), group)
    product = conv.product(conv.slots_on(grid, grid))
    theta = conv.theta().detach().requires_grad_()
    x = torch.randn(3, 2, len(product.sources), width * group.order, requires_grad=True)
    torch.set_num_threads(threads)
    try:
        y = product(x, theta)
        direction = torch.randn_like(y)
        grads = torch.autograd.grad(y, (x, theta), direction)
    finally:
        torch.set_num_threads(1)
    expected, exact_grads = exact(lambda x, t: multiply_modes(x, product.matrices(t)), (x, theta), direction)
    close(y, expected)
    for a, b in zip(grads, exact_grads):
        close(a, b)


def inputs_of_normed_layer(name, width, grid, dtype=torch.float32, modes=7):
    group = PointGroup.named(name)
    torch.manual_seed(0)
    block = PublishedGroupBlock(width, (modes, modes), group, last=False)
    conv, maps = block.conv, (block.mlp.first, block.mlp.second)
    slots = conv.slots_on(grid, grid)
    (w1, b1), (w2, b2) = (m.blocks() for m in maps)
    skip, _ = block.skip.blocks()
    u = torch.randn(2, *grid, width * group.order) + 0.5
    inputs = [t.detach().to(dtype).requires_grad_() for t in (u, conv.weight, w1, b1, w2, b2, skip)]
    return inputs, dict(product=conv.product(slots), slots=slots)


@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize("name, width, grid", [("p4", 3, (9, 70)), ("p4m", 2, (16, 16))])
def test_compiled_normed_layer(name, width, grid, last):
    inputs, options = inputs_of_normed_layer(name, width, grid)
    y = normed_layer(*inputs, **options, last=last)
    direction = torch.randn_like(y)
    grads = torch.autograd.grad(y, inputs, direction, retain_graph=True)
    again = torch.autograd.grad(y, inputs, direction)  # nothing that was kept is overwritten
    expected, exact_grads = exact(
        lambda *t: normed_layer_reference(*t, **options, last=last), inputs, direction
    )
    close(y, expected)
    for a, b, c in zip(grads, exact_grads, again):
        close(a, b, 1e-5)
        assert torch.equal(a, c)
    with torch.no_grad():
        assert torch.equal(normed_layer(*inputs, **options, last=last), y)


def test_normed_layer_is_twice_differentiable():
    inputs, options = inputs_of_normed_layer("p4", 1, (4, 5), torch.float64, modes=3)
    assert torch.autograd.gradcheck(
        lambda *t: normed_layer(*t, **options, last=False), inputs, nondet_tol=1e-10
    )
    inputs32, options = inputs_of_normed_layer("p4", 2, (8, 8))
    y = normed_layer(*inputs32, **options, last=False)
    (g,) = torch.autograd.grad(y.square().sum(), inputs32[:1], create_graph=True)
    (gg,) = torch.autograd.grad(g.square().sum(), inputs32[:1])
    inputs64 = [t.detach().double().requires_grad_() for t in inputs32]
    y = normed_layer_reference(*inputs64, **options, last=False)
    (h,) = torch.autograd.grad(y.square().sum(), inputs64[:1], create_graph=True)
    (hh,) = torch.autograd.grad(h.square().sum(), inputs64[:1])
    close(gg, hh, 1e-4)


@pytest.mark.parametrize("grid", [(12, 12), (7, 10)])
def test_norms_of_spectra_are_norms_of_fields(grid):
    """The instance norm of torch, over points and slots, on both sides of the product."""
    group, slots_of = PointGroup.named("p4m"), GroupSpectralConv(2, 2, (7, 7), PointGroup.named("p4m"))
    slots = slots_of.slots_on(grid, grid)
    u = torch.randn(3, *grid, 2 * group.order, dtype=torch.float64) + 2.0
    product, theta = slots_of.product(slots), slots_of.weight.detach().double()

    def normed(x):
        fields = x.unflatten(-1, (group.order, 2)).permute(0, 4, 3, 1, 2)
        return instance_norm(fields).permute(0, 3, 4, 2, 1).flatten(-2)

    inner = dft.synthesise(product(dft.analyse(normed(u), slots), theta), slots, grid)
    y = normed_spectrum(u, theta, product=product, slots=slots)
    torch.testing.assert_close(dft.synthesise(y, slots, grid), normed(inner), rtol=0, atol=1e-12)


def test_published_block_is_its_formula():
    group = PointGroup.named("p4")
    block = PublishedGroupBlock(3, (7, 7), group, last=False).double()
    u = torch.randn(2, 12, 9, 10, dtype=torch.float64)

    def normed(x):
        return instance_norm(x.unflatten(1, (4, 3)).transpose(1, 2)).transpose(1, 2).flatten(1, 2)

    z = block.mlp.second(gelu(block.mlp.first(normed(block.conv(normed(u))))))
    torch.testing.assert_close(block(u), gelu(z + block.skip(u)), rtol=0, atol=1e-12)


def test_statistics_are_those_of_all_turned_copies():
    kinds, group = ("scalar", "vector", "pseudoscalar"), torch.stack(GROUPS["p4m"])
    turns = channel_matrix(kinds, group)
    normalizer = Normalizer(4, 4, turns, turns).double()
    x = torch.randn(5, 4, 6, 6, dtype=torch.float64) * torch.tensor([1.0, 2, 3, 4]).view(4, 1, 1) + 3
    copies = torch.cat([turn_field(x, turn, kinds) for turn in group]).transpose(0, 1).flatten(1)
    mean, std = x.mean((0, 2, 3)), x.transpose(0, 1).flatten(1).std(1, correction=0)
    normalizer.set(mean, std, mean, std, increment=True)
    torch.testing.assert_close(normalizer.input_mean, copies.mean(1), rtol=0, atol=1e-13)
    torch.testing.assert_close(normalizer.output_std, copies.std(1, correction=0), rtol=0, atol=1e-13)
    assert normalizer.input_mean[1:].tolist() == [0, 0, 0]
    assert normalizer.input_std[1] == normalizer.input_std[2]
    large = Normalizer(1, 1, *[channel_matrix(("scalar",), group)] * 2).double()
    large.set([1e9], [1e-3], [1e9], [1e-3])
    assert large.input_std.item() == 1e-3  # no cancellation for what does not turn


# Weights of the published network.


@pytest.mark.parametrize("name, modes, width", [("p4", 9, 3), ("p4m", 9, 3)])
def test_published_files(real_data, name, modes, width):
    with np.load(real_data / f"gfno_{name}_reference.npz") as file:
        arrays = dict(file)
    state = {key.removeprefix("state/"): value for key, value in arrays.items() if key.startswith("state/")}
    model = interop.from_gfno(state)
    assert (model.group, model.n_modes) == (name, (modes, modes))
    assert model.config["hidden_channels"] == width and model.in_channels == arrays["input"].shape[-1]
    x = torch.from_numpy(arrays["input"]).movedim(-1, 1)
    expected = torch.from_numpy(arrays["output"]).squeeze(-1).movedim(-1, 1)
    assert (model.predict(x) - expected).norm() <= 1e-5 * expected.norm()


def published_state(order=4, m=3, width=2, steps=1, layers=2):
    generator = torch.Generator().manual_seed(0)

    def random(*shape, dtype=torch.float32):
        return torch.randn(shape, generator=generator, dtype=dtype) / math.sqrt(width * order)

    state = {"p.W": random(width, 1, steps + 1, 1, 1), "p.B": random(1, width, 1, 1)}
    for layer in range(layers):
        head = (width, 1, width, order)
        state[f"conv{layer}.conv.W.00_modes"] = random(*head, 1, 1)
        state[f"conv{layer}.conv.W.y0_modes"] = random(*head, m - 1, 1, dtype=torch.complex64)
        state[f"conv{layer}.conv.W.yposx_modes"] = random(*head, 2 * m - 1, m - 1, dtype=torch.complex64)
        for part in (f"mlp{layer}.mlp1", f"mlp{layer}.mlp2", f"w{layer}"):
            state |= {f"{part}.W": random(*head, 1, 1), f"{part}.B": random(1, width, 1, 1)}
    state |= {"q.mlp1.W": random(4 * width, 1, width, order, 1, 1), "q.mlp1.B": random(1, 4 * width, 1, 1)}
    return state | {"q.mlp2.W": random(1, 1, 4 * width, 1, 1), "q.mlp2.B": random(1, 1, 1, 1)}


def test_sizes_are_read_from_the_shapes():
    model = interop.from_gfno(published_state(order=8, m=4, width=3, steps=2, layers=3))
    assert (model.group, model.n_modes, model.in_channels, len(model.blocks)) == ("p4m", (7, 7), 2, 3)
    assert interop.from_gfno(published_state(), positional_embedding=None).in_channels == 2
    x = torch.randn(1, 2, 9, 9)
    for turn in GROUPS["p4m"]:
        y = model(turn_field(x, turn, ("scalar",) * 2))
        torch.testing.assert_close(y, turn_field(model(x), turn, ("scalar",)), rtol=1e-4, atol=1e-5)


def test_what_is_not_a_published_state_is_named():
    for change, words in (
        (lambda s: s.pop("w1.B"), "not the state dict of a published GFNO2d: .*w1.B"),
        (lambda s: s.update(extra=torch.zeros(1)), "extra would be left over"),
        (lambda s: s.pop("p.W"), "it lacks p.W"),
        (lambda s: s.update({"w0.W": torch.zeros(2, 1, 2, 6, 1, 1)}), "w0.W holds 6 group elements; 4"),
        (lambda s: s.update({"w1.W": torch.zeros(3, 1, 2, 4, 1, 1)}), "size mismatch for blocks.1.skip"),
    ):
        state = published_state()
        change(state)
        with pytest.raises(ValueError, match=words):
            interop.from_gfno(state)
