"""Causal convolutions and their inverse: dense matrices, adjoints, derivatives, backends and transforms."""

from math import prod

import pytest
import torch
from torch.autograd import gradcheck, gradgradcheck
from torch.utils._python_dispatch import TorchDispatchMode

from opflow.kernels import causal_conv, causal_convolve, causal_solve, inverse_gain
from opflow.kernels.causal_op import solve
from opflow.kernels.causal_reference import row_scan, wavefront
from opflow.kernels.corner import divide_by_corner
from tests.causal_problems import PROBLEMS, dense, problem

every_problem = pytest.mark.parametrize("name", PROBLEMS)
images = pytest.mark.parametrize("name", [n for n, p in PROBLEMS.items() if len(p[3]) == 2])


def close(a, b, tolerance):
    assert a.shape == b.shape and a.dtype == b.dtype
    assert (a - b).abs().amax() <= tolerance * max(1, b.abs().amax())


def gradients(function, inputs, direction):
    leaves = [t.detach().clone().requires_grad_() for t in inputs]
    y = function(*leaves)
    return y.detach(), *torch.autograd.grad(y, leaves, direction.to(y.dtype))


@every_problem
def test_against_the_dense_matrix(name):
    y, weight, options = problem(name)
    matrix = dense(weight, y.shape[2:], **options)
    assert torch.linalg.cond(matrix) < 100
    close(causal_conv(y, weight, **options), (y.flatten(1) @ matrix.T).view(y.shape), 1e-13)
    expected = torch.linalg.solve(matrix, y.flatten(1).T).T.view(y.shape)
    close(causal_solve(y, weight, **options), expected, 1e-12)
    log_determinant = torch.linalg.slogdet(matrix).logabsdet
    corner = weight[(..., *(-1,) * (y.ndim - 2))].unflatten(0, (options["groups"], -1))
    close(prod(y.shape[2:]) * torch.linalg.slogdet(corner).logabsdet.sum(), log_determinant, 1e-11)


@every_problem
def test_the_gradient_is_the_adjoint(name):
    """The inner product of L^-1 u with v is that of u with the gradient for v, up to rounding."""
    u, weight, options = problem(name)
    v = torch.randn_like(u)
    x, adjoint, _ = gradients(lambda y, w: causal_solve(y, w, **options), (u, weight), v)
    torch.testing.assert_close((x * v).sum(), (u * adjoint).sum(), rtol=0, atol=1e-11)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # TorchScript is on its way out
@every_problem
def test_derivatives(name):
    y, weight, options = problem(name)
    y, weight = y[:2, ..., :4].clone().requires_grad_(), weight[..., -4:].clone().requires_grad_()

    def function(y, weight):
        return causal_solve(y, weight, **options)

    fast = {"fast_mode": y.numel() > 40}
    assert gradcheck(function, (y, weight), check_forward_ad=True, check_batched_grad=True, **fast)
    assert gradgradcheck(function, (y, weight), check_fwd_over_rev=True, **fast)


@every_problem
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_round_trips(name, dtype):
    y, weight, options = problem(name, dtype)
    tolerance = 1e-5 if dtype == torch.float32 else 1e-13
    close(causal_conv(causal_solve(y, weight, **options), weight, **options), y, tolerance)
    close(causal_solve(causal_conv(y, weight, **options), weight, **options), y, tolerance)


@every_problem
def test_the_compiled_kernel_is_the_reference(name):
    """In float32 the compiled kernel runs, in float64 the reference; outputs and all gradients agree."""
    y, weight, options = problem(name)
    direction = torch.randn_like(y)
    expected = gradients(lambda y, w: causal_solve(y, w, **options), (y, weight), direction)
    found = gradients(lambda y, w: causal_solve(y, w, **options), (y.float(), weight.float()), direction)
    for a, b in zip(found, expected, strict=True):
        close(a.double(), b, 5e-6)


@pytest.mark.parametrize(
    "batch, channels, groups, space, kernel",
    [
        (33, 12, 4, (16, 16), (3, 3)),
        (7, 24, 1, (8, 9), (3, 3)),
        (2, 5, 1, (70, 65), (4, 2)),
        (1, 13, 1, (3, 150), (2, 7)),
        (2, 40, 1, (9, 12), (3, 3)),
    ],
)
def test_the_compiled_kernel_at_larger_sizes(batch, channels, groups, space, kernel):
    """And the same bits on any number of threads."""
    torch.manual_seed(0)
    c = channels // groups
    weight = 0.3 / (prod(kernel) * c) ** 0.5 * torch.randn(channels, c, *kernel)
    weight[..., -1, -1] += torch.eye(c).repeat(groups, 1)
    y, reverse = torch.randn(batch, channels, *space), [(g % 2 == 1, g // 2 == 1) for g in range(groups)]
    direction = torch.randn_like(y)

    def run(*inputs):
        return gradients(lambda y, w: causal_solve(y, w, groups=groups, reverse=reverse), inputs, direction)

    before, found = torch.get_num_threads(), []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            found.append(run(y, weight))
    finally:
        torch.set_num_threads(before)
    for one, two, three, exact in zip(*found, run(y.double(), weight.double()), strict=True):
        assert torch.equal(one, two) and torch.equal(one, three)
        close(one.double(), exact, 2e-6)


@images
def test_rows_and_diagonals_are_the_same_recurrence(name):
    y, weight, options = problem(name)
    y, taps = y.unflatten(1, (options["groups"], -1)), divide_by_corner(weight, options["groups"])
    close(row_scan(y, taps), wavefront(y, taps), 1e-13)


@every_problem
def test_convolutions_by_products_where_libraries_round(name, monkeypatch):
    """As on GPUs, whose convolutions drop digits of float32 that the inverse needs."""
    y, weight, options = problem(name)
    direction = torch.randn_like(y)

    def both(y, weight):
        return causal_conv(causal_solve(y, weight, **options).cos(), weight, **options)

    expected = gradients(both, (y, weight), direction)
    monkeypatch.setattr(causal_convolve, "rounds_convolutions", lambda x: True)
    for a, b in zip(gradients(both, (y, weight), direction), expected, strict=True):
        close(a, b, 1e-13)


class Products(TorchDispatchMode):
    """Counts batched matrix products."""

    count = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.count += function is torch.ops.aten.bmm.default
        return function(*args, **kwargs or {})


@images
def test_one_product_for_each_diagonal(name):
    y, weight, options = problem(name)
    with Products() as products:
        wavefront(y.unflatten(1, (options["groups"], -1)), divide_by_corner(weight, options["groups"]))
    rows, columns = y.shape[2:]
    assert products.count == rows + columns - 1


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_any_memory_layout_and_no_images(dtype):
    y, weight, options = problem("four-corners", dtype)
    x = causal_solve(y, weight, **options)
    for other in (
        y.to(memory_format=torch.channels_last),
        y.transpose(2, 3).contiguous().transpose(2, 3),
        y.repeat(1, 1, 1, 2)[..., :4],
    ):
        assert torch.equal(causal_solve(other, weight.to(memory_format=torch.channels_last), **options), x)
    direction = torch.ones(1, dtype=dtype).expand_as(y)  # as the gradient of a sum
    found = gradients(lambda y, w: causal_solve(y, w, **options), (y, weight), direction)
    expected = gradients(lambda y, w: causal_solve(y, w, **options), (y, weight), direction.clone())
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))
    x, grad_y, grad_weight = gradients(lambda y, w: causal_solve(y, w, **options), (y[:0], weight), y[:0])
    assert x.shape == grad_y.shape == y[:0].shape and not grad_weight.any()


def test_reversed_axes_are_flipped_before_and_after():
    y, weight, options = problem("wide")
    for function in (causal_conv, causal_solve):
        turned = function(y, weight, reverse=(True, False))
        close(turned, function(y.flip(2), weight).flip(2), 1e-14)
        close(function(y, weight, reverse=[(True, False)]), turned, 0)


def test_only_the_solution_and_the_kernel_are_kept():
    y, weight, options = problem("four-corners", torch.float32)
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t):
        x = causal_solve(y.requires_grad_(), weight.requires_grad_(), **options)
    assert {t.data_ptr() for t in kept} == {x.data_ptr(), weight.data_ptr()} and len(kept) == 2


@pytest.mark.parametrize("method", ["substitution", "fft"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_opcheck(dtype, method):
    y, weight, options = problem("four-corners", dtype, scale=0.05)
    arguments = (y.requires_grad_(), weight.requires_grad_(), [0, 1, 2, 3], 4, method)
    torch.library.opcheck(solve, arguments)


@pytest.mark.parametrize("name", ["line", "four-corners", "volume"])
def test_compiles_whole_and_exports(name):
    y, weight, options = problem(name, torch.float32)

    class Layer(torch.nn.Module):
        def forward(self, y, weight):
            return causal_conv(causal_solve(y, weight, **options).tanh(), weight, **options)

    layer = Layer()
    found = gradients(
        torch.compile(layer, fullgraph=True, backend="aot_eager"), (y, weight), torch.ones_like(y)
    )
    for a, b in zip(found, gradients(layer, (y, weight), torch.ones_like(y)), strict=True):
        close(a, b, 1e-6)
    exported = torch.export.export(layer, (y, weight), dynamic_shapes=({0: torch.export.Dim("batch")}, None))
    assert [n.target for n in exported.graph.nodes].count(torch.ops.opflow.causal_solve.default) == 1
    more = torch.cat([y, y, y])
    close(exported.module()(more, weight), layer(more, weight), 1e-6)


def test_batches_of_problems():
    y, weight, options = problem("four-corners")
    ys, weights = torch.randn(3, *y.shape).double(), weight + 0.01 * torch.randn(3, *weight.shape)

    def function(y, weight):
        return causal_solve(y, weight, **options)

    for in_dims, many in (((0, None), (ys, weight)), ((None, 0), (y, weights)), ((0, 0), (ys, weights))):
        pick = [t.unbind() if dim == 0 else [t] * 3 for t, dim in zip(many, in_dims)]
        one_by_one = [function(*pair) for pair in zip(*pick)]
        close(torch.vmap(function, in_dims)(*many), torch.stack(one_by_one), 1e-13)
    elsewhere = torch.vmap(function, (4, 1))(ys.movedim(0, 4), weights.movedim(0, 1))
    close(elsewhere, torch.vmap(function)(ys, weights), 1e-14)
    slope = torch.func.grad(lambda weight, y: function(y, weight).square().sum())
    expected = torch.stack([slope(w, y) for w, y in zip(weights, ys)])
    close(torch.vmap(slope)(weights, ys), expected, 1e-12)


def test_autocast_keeps_single_precision():
    y, weight, options = problem("four-corners", torch.float32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        x = causal_solve(y.bfloat16(), weight, **options)
        assert torch.equal(causal_solve(y, weight, **options), causal_solve(y, weight, **options))
        back = causal_conv(x, weight, **options)
        assert solve(y.bfloat16(), weight.bfloat16(), [0] * 4, 4, "substitution").dtype == torch.float32
    assert x.dtype == back.dtype == torch.float32
    close(back, y.bfloat16().float(), 1e-5)
    close(causal_solve(y, weight, **options), x, 2e-2)


def test_gain_against_growth():
    """Solutions of one impulse grow by the radius, and the norm bounds the inverse of a large matrix."""
    y, weight, options = problem("wide", scale=0.05)
    bound, radius, norm = inverse_gain(weight)
    assert radius < norm <= bound < 1
    matrix = dense(weight, (12, 12), 1, None)
    corner = (
        torch.block_diag(*[weight[..., -1, -1]] * 144).view(144, 2, 144, 2).transpose(0, 1).transpose(2, 3)
    )
    inverse = torch.linalg.solve(matrix, corner.reshape(288, 288))
    assert 1 < torch.linalg.matrix_norm(inverse, ord=2) <= 1 / (1 - norm)
    line = torch.tensor([[[-1.05, 1.0]]], dtype=torch.float64)
    assert abs(inverse_gain(line).radius - 1.05) < 1e-12
    impulse = torch.zeros(1, 1, 101, dtype=torch.float64).index_fill(2, torch.tensor([0]), 1)
    close(causal_solve(impulse, line)[0, 0, 100], torch.tensor(1.05**100).double(), 1e-6)


def test_gain_is_that_of_the_worst_group_and_has_a_gradient():
    y, weight, options = problem("four-corners")
    worst = [inverse_gain(w) for w in weight.unflatten(0, (4, 2))]
    for value, parts in zip(inverse_gain(weight, 4), zip(*worst)):
        close(value, max(parts), 1e-12)
    assert gradcheck(lambda w: inverse_gain(w, 4).bound, weight.requires_grad_())


@every_problem
@pytest.mark.parametrize("method", ["fft", "fixed_point"])
def test_other_methods_where_the_inverse_decays(name, method):
    y, weight, options = problem(name, scale=0.04)
    direction = torch.randn_like(y)
    expected = gradients(lambda y, w: causal_solve(y, w, **options), (y, weight), direction)
    found = gradients(lambda y, w: causal_solve(y, w, **options, method=method), (y, weight), direction)
    for a, b in zip(found, expected, strict=True):
        close(a, b, 1e-12)


@pytest.mark.parametrize("method", ["fft", "fixed_point"])
def test_other_methods_refuse_growth(method):
    y, weight, options = problem("wide", scale=1.0)
    with pytest.raises(ValueError, match=r"radius of the taps reaches \d.*method='substitution'"):
        causal_solve(y, weight, method=method, **options)


@pytest.mark.parametrize("function", [causal_conv, causal_solve])
def test_what_does_not_fit(function):
    y, weight, _ = problem("wide")
    for y_, weight_, options, kind, words in (
        (y[:, :1], weight, {}, ValueError, r"kernel has shape \(2, 2, 3, 3\).*takes \(1, 1, k1, k2\)"),
        (y, weight, {"groups": 2}, ValueError, r"takes \(2, 1, k1, k2\)"),
        (y, weight, {"groups": 3}, ValueError, "2 channels do not divide into groups=3"),
        (y, weight[..., 0], {}, ValueError, r"takes \(2, 2, k1, k2\)"),
        (y[0], weight, {}, ValueError, r"takes \(4, 4, k1\)"),
        (y[0, 0], weight, {}, ValueError, r"expected \(batch, channel, \*space\)"),
        (y[..., :2], weight, {}, ValueError, r"\(3, 3\) is longer than the field \(4, 2\).*smaller kernel"),
        (y.long(), weight, {}, TypeError, r"the field is torch.int64.*\.float\(\)"),
        (y.half(), weight.half(), {}, TypeError, "float16"),
        (y.float(), weight, {}, TypeError, "float32 and the kernel torch.float64"),
        (y, weight, {"reverse": (True,)}, ValueError, "expected a tuple of 2 bools"),
        (y, weight, {"reverse": [(True, False), (True, True)]}, ValueError, "for each of the 1 groups"),
    ):
        with pytest.raises(kind, match=words):
            function(y_, weight_, **options)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_kernels_without_an_inverse(dtype):
    y, weight, options = problem("four-corners", dtype)
    for corner in (torch.zeros(2, 2), torch.ones(2, 2)):
        singular = weight.clone()
        singular[2:4, :, -1, -1] = corner
        for call in (lambda w: causal_solve(y, w, **options), lambda w: inverse_gain(w, 4)):
            with pytest.raises(ValueError, match=r"of group 1 is singular.*with a positive diagonal"):
                call(singular)
    for value in (float("nan"), float("inf")):
        for place in ((0, 0, 0, 0), (0, 0, 2, 2)):
            broken = weight.clone()
            broken[place] = value
            with pytest.raises(ValueError, match="1 of the 144 weights .* not finite"):
                causal_solve(y, broken, **options)
    with pytest.raises(ValueError, match="choose one of 'substitution', 'fft', 'fixed_point'"):
        causal_solve(y, weight, **options, method="jacobi")
