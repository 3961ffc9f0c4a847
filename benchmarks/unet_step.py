"""One training step of the U-Net, against torchcfm's with the same weights.

    python benchmarks/unet_step.py             # 32x32, batch 32, one thread, CPU seconds

Both sides are one function: torchcfm's network (`torchcfm.models.unet.unet.UNetModel` with scales and
shifts from the time, otherwise as it comes) and ours with its weights give the same output and gradients, or
the script stops. A step is forward, mean square, backward, without the optimiser, which is the same on both
sides. The sizes are those of the latent U-Net of MINO-U and of small velocity networks: 64 channels,
multipliers (1, 2, 2, 2), one block per level, attention with four heads at 16x16 and in the middle.

For scale, the time of the convolutions alone is printed: forward and backward, by torch's own routines, in
their best memory layout. Ours take fewer multiplications, so that a whole step can take less.
"""

import argparse
import warnings

import harness

BATCH, GRID, CHANNELS, MULTIPLIERS, HEADS = 32, 32, 64, (1, 2, 2, 2), 4


def build():
    """Return ours and theirs, as functions of a time and a field, with the parameters of each."""
    import torch
    from torch import nn
    from torchcfm.models.unet.unet import UNetModel

    from opflow.nn import UNet

    torch.manual_seed(0)
    theirs = UNetModel(
        image_size=GRID,
        in_channels=3,
        model_channels=CHANNELS,
        out_channels=3,
        num_res_blocks=1,
        attention_resolutions=(2,),
        channel_mult=MULTIPLIERS,
        num_heads=HEADS,
        use_scale_shift_norm=True,
    )
    with torch.no_grad():
        for parameter in theirs.parameters():  # some are zero at first, and would hide a difference
            parameter += 0.02 * torch.randn_like(parameter)
    net = UNet(3, 3, 2, CHANNELS, MULTIPLIERS, 1, (1,), HEADS, embedding_channels=4 * CHANNELS)

    class Ours(nn.Module):
        def __init__(self):
            super().__init__()
            self.time, self.net = theirs.time_embed, net

        def forward(self, t, x):
            from torchcfm.models.unet.nn import timestep_embedding

            return self.net(x, self.time(timestep_embedding(t, CHANNELS)))

    load(net, theirs)
    return Ours().train(), theirs.train()


def load(net, theirs) -> None:
    """Give our network the weights of theirs."""
    import torch
    from torchcfm.models.unet.unet import AttentionBlock, Downsample, ResBlock, Upsample

    from opflow.nn.residual import Grow, ResidualBlock, SelfAttention

    def in_order(model, *kinds):
        return [module for module in model.modules() if isinstance(module, kinds)]

    def copy(ours, module):
        state = {"weight": module.weight.reshape(ours.weight.shape), "bias": module.bias}
        ours.load_state_dict(state)

    # Theirs come in the order of their use; in ours, levels and the steps between them have separate lists.
    mine = [*in_order(net.down, ResidualBlock), *in_order(net.middle, ResidualBlock)]
    mine += in_order(net.up, ResidualBlock)
    blocks = in_order(theirs, ResBlock)
    for block, other in zip(mine, blocks, strict=True):
        copy(block.norm1, other.in_layers[0])
        copy(block.conv1, other.in_layers[2])
        copy(block.norm2, other.out_layers[0])
        copy(block.conv2, other.out_layers[3])
        if hasattr(block.skip, "weight"):
            copy(block.skip, other.skip_connection)
    mine = [m for part in (net.down, net.middle, net.up) for m in in_order(part, SelfAttention)]
    for attention, other in zip(mine, in_order(theirs, AttentionBlock), strict=True):
        copy(attention.norm, other.norm)
        copy(attention.out, other.proj_out)
        weight, bias = other.qkv.weight.flatten(1), other.qkv.bias
        by_head = [x.unflatten(0, (HEADS, 3, -1)).transpose(0, 1).flatten(0, 2) for x in (weight, bias)]
        attention.qkv.load_state_dict(dict(zip(("weight", "bias"), by_head)))
    for shrink, other in zip(net.shrink, in_order(theirs, Downsample), strict=True):
        copy(shrink, other.op)
    for grow, other in zip(in_order(net.grow, Grow), in_order(theirs, Upsample), strict=True):
        copy(grow.conv, other.conv)
    copy(net.first, theirs.input_blocks[0][0])
    copy(net.norm, theirs.out[0])
    copy(net.last, theirs.out[2])
    linears = [block.emb_layers[1] for block in blocks]
    joined = {name: torch.cat([getattr(m, name) for m in linears]) for name in ("weight", "bias")}
    net.condition.load_state_dict(joined)


def step(model, t, x):
    model.zero_grad(set_to_none=True)
    y = model(t, x)
    y.square().mean().backward()
    return y.detach()


def check(ours, theirs, t, x) -> None:
    """Stop unless both are one function with one gradient."""
    y, expected = step(ours, t, x), step(theirs, t, x)
    error = float((y - expected).norm() / expected.norm())
    # The time embedding is the same module in both: what its gradient lacks, all blocks lack.
    a = [ours.net.first.weight.grad, ours.net.grow[-1].conv.weight.grad, ours.net.condition.bias.grad]
    linears = [m for n, m in theirs.named_modules() if n.endswith("emb_layers.1")]
    b = [theirs.input_blocks[0][0].weight.grad, theirs.output_blocks[-3][-1].conv.weight.grad]
    import torch

    b.append(torch.cat([m.bias.grad for m in linears]))
    errors = [float((u - v).norm() / v.norm()) for u, v in zip(a, b)]
    print(f"  outputs differ by {error:.1e}, gradients by {max(errors):.1e}")
    assert error < 1e-4 and max(errors) < 1e-3, "the two networks differ"


def floor(model, t, x) -> tuple[float, float]:
    """Return the CPU seconds and the floating-point operations of the convolutions of a step, by torch."""
    import time

    import torch

    calls = []
    convolutions = [m for m in model.modules() if isinstance(m, torch.nn.Conv2d)]
    hooks = [m.register_forward_hook(lambda m, xs, y: calls.append((m, xs[0], y))) for m in convolutions]
    model(t, x)
    for hook in hooks:
        hook.remove()
    seconds = operations = 0.0
    for m, given, y in calls:
        field, weight, grad = (
            z.detach().contiguous(memory_format=torch.channels_last) for z in (given, m.weight, y)
        )
        shared = (m.stride, m.padding, m.dilation)
        times = []
        for _ in range(3):
            start = time.process_time()
            torch.nn.functional.conv2d(field, weight, m.bias, *shared)
            torch.ops.aten.convolution_backward(
                *(grad, field, weight, [len(weight)], *shared, False, [0, 0], 1),
                [m is not convolutions[0], True, True],
            )
            times.append(time.process_time() - start)
        seconds += min(times)
        operations += 6.0 * y.numel() * weight[0].numel()
    return seconds, operations


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=9)
    options = parser.parse_args()
    harness.pin_threads(options.threads)
    warnings.simplefilter("ignore")  # torchcfm's dependencies
    import torch

    ours, theirs = build()
    t, x = torch.rand(BATCH), torch.randn(BATCH, 3, GRID, GRID)
    check(ours, theirs, t, x)
    sizes = [sum(p.numel() for p in model.parameters()) for model in (ours, theirs)]
    assert sizes[0] == sizes[1], sizes
    seconds, operations = floor(theirs, t, x)
    print(f"  torch's own convolutions alone: {operations / 1e9:.0f} Gflop in {seconds:.3f} s")
    harness.report(
        f"training step of a U-Net {GRID}x{GRID}, batch {BATCH}, {sizes[0] / 1e6:.2f} M parameters, "
        "the same weights as torchcfm's: CPU seconds",
        *harness.interleave(lambda: step(ours, t, x), lambda: step(theirs, t, x), options.repeats),
        threads=options.threads,
        packages=("torchcfm", "opflow-sciml"),
    )


if __name__ == "__main__":
    main()
