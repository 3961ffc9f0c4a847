"""U-Nets and their parts: against torch's own modules, symmetry, any grid, conditioning."""

import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from opflow import ConvNeXtUNet
from opflow.nn import TimeEmbedding, UNet
from opflow.nn.convnext import ConvNeXtBlock
from opflow.nn.convolution import Convolution, pad_to_multiple
from opflow.nn.residual import ResidualBlock, SelfAttention

GRIDS = {1: (16,), 2: (8, 12), 3: (8, 8, 4)}


def generic(module, seed=0):
    """Move all parameters off their initial values, some of which are zero, in float64."""
    torch.manual_seed(seed)
    with torch.no_grad():
        for p in module.parameters():
            p += 0.2 * torch.randn_like(p)
    return module.double()


def net(n_dim=2, **options):
    sizes = dict(channels=8, multipliers=(1, 2, 2), attention=(1,), heads=2, embedding_channels=6)
    return generic(UNet(3, 2, n_dim, **(sizes | options)))


def doubles(*shape):
    return torch.randn(shape, dtype=torch.float64)


def shifted_back(function, x, shifts):
    axes = tuple(range(2, x.ndim))
    return function(x.roll(shifts, axes)).roll(tuple(-s for s in shifts), axes)


# Parts.


@pytest.mark.parametrize("n_dim", [1, 2, 3])
@pytest.mark.parametrize(
    "circular, stride, groups, size", [(0, 1, 1, 3), (1, 2, 1, 3), (1, 1, 4, 5), (0, 2, 2, 1)]
)
def test_convolutions_are_those_of_torch(n_dim, circular, stride, groups, size):
    conv = Convolution(4, 8, n_dim, size, stride, groups, bool(circular)).double()
    module = (nn.Conv1d, nn.Conv2d, nn.Conv3d)[n_dim - 1](
        *(4, 8, size, stride, size // 2), groups=groups, padding_mode="circular" if circular else "zeros"
    )
    module.double().load_state_dict(conv.state_dict())
    x = doubles(2, 4, *(7, 10, 5)[:n_dim])
    y = conv(x)
    torch.testing.assert_close(y, module(x), rtol=0, atol=1e-12)
    assert y.shape[2:] == tuple(math.ceil(n / stride) for n in x.shape[2:])


def test_initial_weights_are_spread_as_those_of_torch():
    for groups in (1, 4):
        ours, theirs = Convolution(64, 64, 2, groups=groups), nn.Conv2d(64, 64, 3, groups=groups)
        for a, b in zip(ours.parameters(), theirs.parameters()):
            bound = b.abs().max().item()
            assert a.shape == b.shape and 0.9 * bound <= a.abs().max() <= 1.1 * bound


@pytest.mark.parametrize("n", [1, 2, 5])
def test_periodic_kernels_wrap_around_small_grids_more_than_once(n):
    conv = Convolution(1, 1, 1, size=7, circular=True).double()
    x = doubles(1, 1, n)
    sums = [
        conv.bias + sum(conv.weight[0, 0, k] * x[0, 0, (i + k - 3) % n] for k in range(7)) for i in range(n)
    ]
    torch.testing.assert_close(conv(x)[0, 0], torch.cat(sums), rtol=0, atol=1e-13)


def test_filling_up_continues_the_field():
    x = torch.arange(10.0).view(1, 1, 5, 2)
    assert pad_to_multiple(x, 3, circular=False)[0, 0, 5].tolist() == [8.0, 9.0, 9.0]
    assert pad_to_multiple(x, 3, circular=True)[0, 0, 5].tolist() == [0.0, 1.0, 0.0]


def test_attention_is_softmax_among_all_points():
    attention = generic(SelfAttention(6, heads=2))
    u = doubles(2, 6, 3, 5)
    points = attention.norm(u).flatten(2).mT
    q, k, v = F.linear(points, attention.qkv.weight, attention.qkv.bias).chunk(3, -1)
    heads = []
    for head in range(2):
        at = slice(3 * head, 3 * head + 3)
        weights = (q[..., at] @ k[..., at].mT / math.sqrt(3)).softmax(-1)
        heads.append(weights @ v[..., at])
    expected = u + F.linear(torch.cat(heads, -1), attention.out.weight, attention.out.bias).mT.view_as(u)
    torch.testing.assert_close(attention(u), expected, rtol=0, atol=1e-12)


def test_attention_commutes_with_permutations_of_the_points():
    attention, u = generic(SelfAttention(6, heads=3)), doubles(2, 6, 11)
    order = torch.randperm(11)
    torch.testing.assert_close(attention(u[..., order]), attention(u)[..., order], rtol=0, atol=1e-12)


@pytest.mark.parametrize("n_in", [4, 8])
def test_blocks_start_as_their_skips(n_in):
    block = ResidualBlock(n_in, 8, 2)
    u = torch.randn(2, n_in, 5, 6)
    assert torch.equal(block(u), block.skip(u))
    assert torch.equal(SelfAttention(8, 2)(u := torch.randn(2, 8, 5)), u)


def test_times_become_sines_and_cosines_at_a_ladder_of_frequencies():
    embedding = TimeEmbedding(6, fastest=50.0).double()
    t = torch.tensor([0.0, 0.25, 1.0], dtype=torch.float64)
    rows = []
    for time in t.tolist():
        angles = [50 * time * 10000 ** (-j / 3) for j in range(3)]
        rows.append([math.cos(a) for a in angles] + [math.sin(a) for a in angles])
    torch.testing.assert_close(embedding(t), embedding.mlp(torch.tensor(rows).double()), rtol=0, atol=1e-6)
    with pytest.raises(ValueError, match="channels=7 must be even"):
        TimeEmbedding(7)


# The whole.


def plain_unet(state, x, embedding, groups, heads):
    """The network of `net` in two dimensions, written out with torch's functions."""

    def conv(name, x, stride=1):
        weight = state[name + ".weight"]
        return F.conv2d(x, weight, state[name + ".bias"], stride, weight.shape[-1] // 2)

    def norm(name, x):
        return F.group_norm(x, groups[x.shape[1]], state[name + ".weight"], state[name + ".bias"])

    def linear(name, x):
        return F.conv2d(x, state[name + ".weight"][..., None, None], state[name + ".bias"])

    vectors = F.linear(F.silu(embedding), state["condition.weight"], state["condition.bias"])

    def residual(name, x):
        nonlocal vectors
        h = conv(name + ".conv1", F.silu(norm(name + ".norm1", x)))
        count = h.shape[1]
        scale, shift, vectors = vectors.tensor_split([count, 2 * count], 1)
        h = norm(name + ".norm2", h) * (1 + scale[..., None, None]) + shift[..., None, None]
        skip = linear(name + ".skip", x) if name + ".skip.weight" in state else x
        return skip + conv(name + ".conv2", F.silu(h))

    def attend(name, x):
        q, k, v = linear(name + ".qkv", norm(name + ".norm", x)).flatten(2).chunk(3, 1)
        q, k, v = (t.unflatten(1, (heads, -1)) for t in (q, k, v))
        weights = (q.mT @ k / math.sqrt(q.shape[2])).softmax(-1)
        return x + linear(name + ".out", (v @ weights.mT).flatten(1, 2).view_as(x))

    x = conv("first", x)
    left = [x]
    for level in range(3):
        x = residual(f"down.{level}.0.0", x)
        x = attend(f"down.{level}.0.1", x) if level == 1 else x
        left.append(x)
        if level < 2:
            x = conv(f"shrink.{level}", x, stride=2)
            left.append(x)
    x = residual("middle.1.0", attend("middle.0.1", residual("middle.0.0", x)))
    for i, level in enumerate((2, 1, 0)):
        for j in range(2):
            x = residual(f"up.{i}.{j}.0", torch.cat([x, left.pop()], 1))
            x = attend(f"up.{i}.{j}.1", x) if level == 1 else x
        if level:
            rows, columns = left[-1].shape[2:]
            x = x.repeat_interleave(2, 2).repeat_interleave(2, 3)[:, :, :rows, :columns]
            x = conv(f"grow.{i}.conv", x)
    assert not left and not vectors.numel()
    return conv("last", F.silu(norm("norm", x)))


def test_the_network_written_out():
    model = net()
    x, embedding = doubles(2, 3, 9, 14), doubles(2, 6)
    expected = plain_unet(model.state_dict(), x, embedding, {8: 4, 16: 8, 24: 4, 32: 16}, heads=2)
    torch.testing.assert_close(model(x, embedding), expected, rtol=0, atol=1e-10)


@pytest.mark.parametrize("n_dim", [1, 2, 3])
def test_periodic_networks_commute_with_shifts_of_the_coarsest_grid(n_dim):
    model, x, embedding = net(n_dim, circular=True), doubles(2, 3, *GRIDS[n_dim]), doubles(2, 6)
    y = model(x, embedding)
    shifts = (4, 8, 4)[:n_dim]
    again = shifted_back(lambda x: model(x, embedding), x, shifts)
    torch.testing.assert_close(again, y, rtol=0, atol=1e-11)
    assert (shifted_back(lambda x: model(x, embedding), x, (1,) * n_dim) - y).abs().max() > 1e-4
    walls = net(n_dim)
    y = walls(x, embedding)
    assert (shifted_back(lambda x: walls(x, embedding), x, shifts) - y).abs().max() > 1e-4


@pytest.mark.parametrize("circular", [False, True])
@pytest.mark.parametrize("grid", [(1,), (2,), (1, 1), (3, 1), (2, 13), (5, 3, 1)])
def test_grids_as_small_as_a_point(grid, circular):
    model = net(len(grid), circular=circular)
    x, embedding = doubles(1, 3, *grid), doubles(1, 6)
    y = model(x, embedding)
    assert y.shape == (1, 2, *grid) and y.isfinite().all()


def test_each_sample_has_its_own_condition():
    model, x, embedding = net(), doubles(2, 3, 6, 7), doubles(2, 6)
    y = model(x, embedding)
    other = model(x, embedding + torch.tensor([[0.0], [1.0]]))
    assert torch.equal(other[0], y[0]) and (other[1] - y[1]).abs().max() > 1e-3
    for p in model.condition.parameters():
        p.data.zero_()
    plain = net(embedding_channels=None)
    plain.load_state_dict({k: v for k, v in model.state_dict().items() if "condition" not in k})
    torch.testing.assert_close(model(x, embedding), plain(x), rtol=0, atol=1e-12)


def test_single_precision_uses_the_kernels_and_agrees():
    """Wide enough for the compiled convolutions; values and gradients against the float64 references."""
    options = dict(channels=16, attention=(1,), embedding_channels=8)
    torch.manual_seed(0)
    model = UNet(2, 2, **options)
    with torch.no_grad():
        for p in model.parameters():
            p += 0.05 * torch.randn_like(p)
    exact = UNet(2, 2, **options).double()
    exact.load_state_dict(model.state_dict())
    x, embedding = torch.randn(3, 2, 32, 28), torch.randn(3, 8)
    y, expected = model(x, embedding), exact(x.double(), embedding.double())
    assert (y - expected).norm() <= 1e-5 * expected.norm()
    y.square().sum().backward()
    expected.square().sum().backward()
    scale = max(p.grad.norm() for p in exact.parameters())
    for a, b in zip(model.parameters(), exact.parameters()):
        assert (a.grad - b.grad).norm() <= 2e-5 * b.grad.norm() + 1e-7 * scale


@pytest.mark.parametrize(
    "options, words",
    [
        ({"n_dim": 4}, "n_dim must be 1, 2 or 3, got 4"),
        ({"blocks": 0}, "blocks=0"),
        ({"multipliers": ()}, "levels=0"),
        ({"attention": (3,)}, r"attention=\(3,\): levels are 0 to 2"),
        ({"heads": 5}, "heads=5 does not divide the 16 channels of a level"),
    ],
)
def test_sizes_that_do_not_fit_are_named(options, words):
    with pytest.raises(ValueError, match=words):
        net(**options)


def test_an_embedding_that_is_missing_or_unexpected_is_named():
    x = doubles(2, 3, 6, 7)
    with pytest.raises(ValueError, match="embedding_channels=6: it needs an embedding, got none"):
        net()(x)
    with pytest.raises(ValueError, match=r"embedding_channels=None: it takes no embedding, got one of shape"):
        net(embedding_channels=None)(x, doubles(2, 6))
    with pytest.raises(ValueError, match=r"embedding_channels=6: it needs .*, got one of shape \(2, 5\)"):
        net()(x, doubles(2, 5))


# ConvNeXt.


def test_convnext_blocks_written_out():
    block, u = generic(ConvNeXtBlock(6, 2)), doubles(2, 6, 5, 9)
    h = F.conv2d(u, block.depthwise.weight, block.depthwise.bias, padding=3, groups=6).movedim(1, -1)
    h = F.layer_norm(h, (6,), block.norm.weight, block.norm.bias)
    first, second = block.mlp.first, block.mlp.second
    h = F.linear(F.gelu(F.linear(h, first.weight, first.bias)), second.weight, second.bias)
    expected = u + (block.scale * h).movedim(-1, 1)
    torch.testing.assert_close(block(u), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("n_dim", [1, 2, 3])
def test_periodic_convnext_commutes_with_shifts_of_the_coarsest_grid(n_dim):
    model = generic(ConvNeXtUNet(3, 2, n_dim, hidden_channels=4, levels=3, blocks=1, circular=True))
    x = doubles(2, 3, *GRIDS[n_dim])
    again = shifted_back(model, x, (4, 8, 4)[:n_dim])
    torch.testing.assert_close(again, model(x), rtol=0, atol=1e-11)
    assert (shifted_back(model, x, (1,) * n_dim) - model(x)).abs().max() > 1e-4


@pytest.mark.parametrize("options", [{"levels": 0}, {"blocks": 0}, {"hidden_channels": 0}, {"n_dim": 0}])
def test_sizes_of_convnext_that_do_not_fit_are_named(options):
    (name,) = options
    with pytest.raises(ValueError, match=f"{name} must be"):
        ConvNeXtUNet(1, 1, **options)
