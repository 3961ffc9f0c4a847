"""One encoder pass and one training step of MINO, against the published structure with the same weights.

    python benchmarks/mino_step.py            # 4,096 points, batch 8, 2 threads
    python benchmarks/mino_step.py --memory   # 100,000 query points: peak of the resident set
    python benchmarks/mino_step.py --points 1024 --batch 2 --repeats 3

The other side is written below as the authors' scripts have it: neighbours by a matrix of distances at every
call, the kernel's perceptron at every edge of every item on concatenated features of both ends, the mean over
the edges of a node, and queries from concatenated features. Both sides have the weights of one model
(published sizes: width 256, 16x16 latent nodes, 5 blocks) and must agree to 1e-5. A step is forward, mean
square, backward, without the optimiser, which is the same on both sides.
"""

import argparse
import resource
import time

import harness

PACKAGES = ("opflow-sciml",)


def build(points: int, batch: int):
    import torch

    from opflow import MINO

    torch.manual_seed(0)
    model = MINO(1, 1, attention="global", reduction="mean", time=True)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.02 * torch.randn_like(parameter)
    side = round(points**0.5)
    axis = torch.arange(side) / (side - 1)
    coords = torch.stack(torch.meshgrid(axis, axis, indexing="ij"), -1).reshape(-1, 2)
    return model, torch.randn(batch, len(coords), 1), coords, torch.rand(batch)


class Published:
    """The published structure, in plain torch, with the parameters of our model."""

    def __init__(self, model):
        import torch

        self.model = model
        self.nodes = torch.as_tensor(model._graph.nodes, dtype=torch.float32)
        self.radius = model.config["radius"]

    def encode(self, values, coords):
        """Features at the nodes, `(batch, node, channel)`."""
        import torch
        from torch.nn.functional import gelu

        from opflow.nn.position_code import position_code

        kernel = self.model.encoder
        width, batch = kernel.second.out_features, len(values)
        within = torch.cdist(self.nodes, coords) <= self.radius
        target, source = within.nonzero(as_tuple=True)
        code, node_code = position_code(coords, width), position_code(self.nodes, width)
        geometry = torch.cat([code[source], node_code[target]], -1)
        lifted = kernel.lift(values)
        edges = torch.cat([geometry.repeat(batch, 1, 1), lifted[:, source]], -1)
        messages = kernel.second(gelu(kernel.first(edges)))
        sums = messages.new_zeros(batch, len(self.nodes), width).index_add(1, target, messages)
        return sums / within.sum(1).clamp(min=1)[:, None]

    def __call__(self, values, coords, time):
        """Output at the points, `(batch, point, channel)`."""
        import torch
        from torch.nn.functional import gelu

        from opflow.nn.position_code import position_code

        model, decoder = self.model, self.model.decoder
        width = model.encoder.second.out_features
        condition = model.condition(position_code(time[:, None], width))
        tokens = self.encode(values, coords)
        h = tokens
        for block in model.blocks:
            h = self.attend(block, h, tokens, condition)
        code = position_code(coords, width).expand(len(values), -1, -1)
        value = decoder.value_second(gelu(decoder.value_first(values)))
        query = decoder.query_second(gelu(decoder.query_first(torch.cat([code, value], -1))))
        for block in decoder.blocks:
            query = self.attend(block, query, h, condition)
        return decoder.project(decoder.norm(query))

    @staticmethod
    def attend(block, q, kv, condition):
        """Update q, with the parameters of one of our blocks."""
        from torch.nn.functional import gelu, layer_norm, scaled_dot_product_attention

        def heads(x):
            return x.unflatten(-1, (block.n_heads, -1)).transpose(1, 2)

        def normed(x, scale, shift):
            return layer_norm(x, x.shape[-1:], eps=1e-6) * (1 + scale) + shift

        qa, qb, ka, kb, gate, ma, mb, mlp_gate = block.modulation(condition)[:, None].chunk(8, -1)
        key, value = block.key_value(normed(kv, ka, kb)).chunk(2, -1)
        found = scaled_dot_product_attention(heads(block.query(normed(q, qa, qb))), heads(key), heads(value))
        q = q + gate * block.project(found.transpose(1, 2).flatten(2))
        return q + mlp_gate * block.second(gelu(block.first(normed(q, ma, mb))))


def compare(points: int, batch: int, threads: int, repeats: int) -> None:
    import torch

    from opflow.nn.position_code import position_code

    model, values, coords, t = build(points, batch)
    published = Published(model)
    width = model.encoder.second.out_features

    def encode():
        geometry = model.geometry(coords)
        return model.encoder(
            values, geometry, position_code(coords, width), position_code(published.nodes, width)
        )

    def step(call):
        model.zero_grad(set_to_none=True)
        call().square().mean().backward()

    def gradients(call):
        step(call)
        return torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])

    def infer(call):
        with torch.no_grad():
            call()

    encoders = (encode, lambda: published.encode(values, coords))
    steps = (lambda: model(values, coords, time=t), lambda: published(values, coords, t))
    claims = {
        "encoder, forward": (infer, encoders),
        "encoder, forward and backward": (step, encoders),
        "training step": (step, steps),
    }
    for name, (how, (ours, theirs)) in claims.items():
        with torch.no_grad():
            error = relative(ours(), theirs())
        assert error < 1e-5, f"the two are different functions: {error}"
        error = relative(gradients(ours), gradients(theirs))
        assert error < 1e-4, f"the two have different gradients: {error}"
        run = [lambda call=call, how=how: how(call) for call in (ours, theirs)]
        seconds = harness.interleave(*run, repeats, time.perf_counter)
        claim = f"MINO {name}, {len(coords)} points, batch {batch}: s"
        harness.report(claim, *seconds, threads=threads, packages=PACKAGES)


def relative(a, b) -> float:
    return float((a - b).norm() / b.norm())


def predict_many(queries: int, threads: int) -> None:
    """Predict at many points, which are those of the input, and print the peak of the resident set."""
    import torch

    from opflow import MINO

    torch.manual_seed(0)
    model = MINO(1, 1)
    coords, values = torch.rand(queries, 2), torch.randn(queries, 1)
    weights = torch.full((queries,), 1 / queries)
    start = time.perf_counter()
    model.predict(values, coords, weights=weights)
    seconds = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"{queries} points to {queries} points: {seconds:.1f} s, peak of the whole process {peak:.0f} MiB")
    claim = f"MINO predicts {queries} points from as many, peak resident set: MiB"
    harness.record(claim, f"{peak:.0f}", threads=threads, packages=PACKAGES)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--points", type=int, default=4096)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--memory", action="store_true", help="measure the memory of a large prediction")
    parser.add_argument("--queries", type=int, default=100_000, help="its number of points")
    options = parser.parse_args()
    harness.pin_threads(options.threads)
    if options.memory:
        return predict_many(options.queries, options.threads)
    compare(options.points, options.batch, options.threads, options.repeats)


if __name__ == "__main__":
    main()
