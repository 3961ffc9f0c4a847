"""Rectified flows and one-way networks on pairs whose conditional law is known: one row per model.

    python benchmarks/rectified.py                                   # task darcy, under an hour on one core
    python benchmarks/rectified.py --models symmflow unet-ce         # some of the models
    python benchmarks/rectified.py --seconds 20 --masks 16 --draws 4 # a smoke test

Task darcy: the phases of a two-phase medium <-> the pressure in it, 32 x 32, 1,024 training pairs. Contrast
and source are hidden: for one map of phases there is a law of pressures, drawn by running the solver of
pde_data again with fresh hidden variables. Noise of 1 %.

Every model has the same number of CPU seconds and, as U-Net or FNO, about the same number of parameters. Rows
of rectified.csv: a model that is there already, with the same task, seed and seconds, is not trained again.

Columns
    miou_1, miou_n            labels from fields, by one evaluation of the network and by n of them
    mean                      relative L2 error of the conditional mean of fields: of one evaluation
    crps, swd, spread         of fields given labels, by Euler steps: fair CRPS and sliced Wasserstein
                              distance over the deviation of the field, spread over the true spread
    crps_p, swd_p, spread_p   the same number of evaluations as midpoint steps that end at (i / n)^2
The row "truth" draws from the solver, as many fields as the models do: the floor. "mean" and "majority" know
nothing of the input.
"""

import argparse
import csv
import time
from collections.abc import Callable
from pathlib import Path

import harness

ROWS = Path(__file__).parent / "rectified.csv"
METRICS = ("miou_1", "miou_n", "mean", "crps", "swd", "spread", "crps_p", "swd_p", "spread_p")
COLUMNS = ("date", "machine", "task", "model", "seed", "seconds", "parameters", "steps", *METRICS)
GRID, TRAINING, EVALUATIONS = 32, 1024, 16

UNET = {"class": "UNet", "config": {"hidden_channels": 16, "multipliers": (1, 2, 4)}}
FNO = {"class": "FNO", "config": {"n_modes": (12, 12), "hidden_channels": 30}}


class Darcy:
    """Phases and pressures of a medium with hidden contrast and source."""

    def __init__(self, masks: int, draws: int, seed: int = 0):
        import numpy as np
        import torch

        from pde_data.equations.darcy import Darcy as Equation

        self.equation = Equation(resolution=GRID)
        n = TRAINING + masks
        phases = self.equation.permeability(seed, range(n), self.equation.grid) > self.equation.low
        rng = np.random.default_rng(seed + 1)
        self.labels = torch.as_tensor(phases).long()
        self.fields = self._solve(phases, self._hidden(n, rng), rng)[:, None]
        self.training = self.fields[:TRAINING], self.labels[:TRAINING]
        self.tests = self.fields[TRAINING:], self.labels[TRAINING:]
        # Twice the draws, stratified, are the reference: its means are those of the law up to a percent.
        tested = phases[TRAINING:]
        reference = [self._hidden(2 * draws, rng, stratified=True) for _ in tested]
        again = np.repeat(tested, 2 * draws, 0)
        self.law = self._solve(again, np.concatenate(reference, 1), rng).unflatten(0, (masks, -1))
        again = np.repeat(tested, draws, 0)
        self.perfect = self._solve(again, self._hidden(len(again), rng), rng).unflatten(0, (masks, -1))

    def _hidden(self, n: int, rng, stratified: bool = False):
        """Logarithm of the contrast, 2 to 8, and source, 1/2 to 3/2: `(2, n)`."""
        import numpy as np

        u = rng.random((2, n))
        if stratified:
            u = (np.stack([rng.permutation(n) for _ in range(2)]) + u) / n
        return np.stack([np.log(2) + u[0] * np.log(4), 0.5 + u[1]])

    def _solve(self, phases, hidden, rng):
        import numpy as np
        import torch

        contrast, source = hidden[..., None, None]
        u, _ = self.equation.solve(self.equation.low * np.where(phases, np.exp(contrast), 1.0))
        u = source * u  # the equation is linear in the source
        u += 0.01 * u.std((1, 2), keepdims=True) * rng.standard_normal(u.shape)
        return torch.as_tensor(u.astype(np.float32))


TASKS = {"darcy": Darcy}


class Model:
    """What is trained, and what it can do: `segment(fields, n)`, `draw(labels, **solver)`, `mean(labels)`.

    A `turned` model sees each batch under a random symmetry of the square, which is one of the law.
    """

    def __init__(self, module, loss: Callable, segment=None, draw=None, mean=None):
        self.module, self.loss, self.segment, self.draw = module, loss, segment, draw
        self.turned = False
        self.mean = mean or (draw and (lambda y: draw(y, n_steps=1)))


def one_way(architecture: dict, target: str, task) -> Model:
    """A network trained for one direction alone: labels by cross-entropy, or fields by least squares."""
    from torch.nn.functional import cross_entropy

    from opflow import build

    fields, _ = task.training
    mean, std = float(fields.mean()), float(fields.std())
    outputs = 2 if target == "labels" else 1
    net = build(architecture["class"], **architecture["config"], in_channels=1, out_channels=outputs)
    if target == "labels":

        def logits(x):
            return net((x - mean) / std)

        return Model(
            net, lambda x, y, g: cross_entropy(logits(x), y), segment=lambda x, n: logits(x).argmax(1)
        )

    def field(y):
        return net(2.0 * y[:, None] - 1)

    def loss(x, y, g):
        return (field(y) - (x - mean) / std).square().mean()

    return Model(net, loss, mean=lambda y: std * field(y) + mean)


def one_way_flow(target: str, task, matcher: bool = False) -> Model:
    """A conditional flow for one direction alone; with `matcher`, torchcfm draws points and velocities."""
    from opflow.rectified import FunctionalFlow, Palette

    codec, flow = Palette(2, 1), FunctionalFlow(UNET, condition_channels=1)
    fields, labels = task.training
    flow.fit_normalizer(fields if target == "field" else codec.encode(labels))

    def draw(y, **solver):
        return flow.sample(
            len(y), (GRID, GRID), condition=codec.encode(y), seed=0, chunk=128, **solver
        ).samples

    def segment(x, n):
        condition = (x - fields.mean()) / fields.std()
        found = flow.sample(len(x), (GRID, GRID), condition=condition, seed=0, chunk=128, n_steps=n)
        return codec.decode(found.samples)

    def loss(x, y, g):
        if target == "field":
            return flow.loss(x, codec.encode(y), generator=g)
        return flow.loss(codec.encode(y), (x - fields.mean()) / fields.std(), generator=g)

    if matcher:
        import torch
        from torchcfm import ConditionalFlowMatcher

        match = ConditionalFlowMatcher(sigma=0.0)

        def loss(x, y, g):
            x1 = flow.normalize(x)
            t, xt, ut = match.sample_location_and_conditional_flow(torch.randn_like(x1), x1)
            state = torch.cat([xt, codec.encode(y)], 1)
            return (flow.network(state, t[:, None]) - ut).square().mean()

    return Model(flow, loss, draw=draw) if target == "field" else Model(flow, loss, segment=segment)


def unified(flow, task) -> Model:
    """A flow that goes both ways."""
    flow.fit_normalizer(task.training[0])

    def segment(x, n):
        import torch

        from opflow.rectified import SymmFlow

        seed = {"seed": 0} if isinstance(flow, SymmFlow) else {}
        return torch.cat([flow.segment(part, n_steps=n, **seed).labels for part in x.split(128)])

    def draw(y, **solver):
        return flow.synthesise(y, seed=0, chunk=128, **solver).samples

    return Model(flow, flow.loss, segment, draw)


def models() -> dict[str, Callable]:
    """The models by name, each a function of the task."""
    from opflow.rectified import GaussianProcess, Palette, SemFlow, SymmFlow

    narrow, wide = Palette(2, 1, perturbation=0.1), Palette(2, 1, perturbation=1.0)
    function_noise = GaussianProcess(length=0.05, nu=0.5)

    def symm(**options):
        return SymmFlow(UNET, Palette(2, 1), **options)

    def turned(model: Model) -> Model:
        model.turned = True
        return model

    return {
        "unet-ce": lambda task: one_way(UNET, "labels", task),
        "fno-ce": lambda task: one_way(FNO, "labels", task),
        "unet-mse": lambda task: one_way(UNET, "field", task),
        "fno-mse": lambda task: one_way(FNO, "field", task),
        "flow-to-field": lambda task: one_way_flow("field", task),
        "flow-to-field-torchcfm": lambda task: one_way_flow("field", task, matcher=True),
        "flow-to-labels": lambda task: one_way_flow("labels", task),
        "semflow-published": lambda task: unified(SemFlow(UNET, narrow), task),
        "symmflow-published": lambda task: unified(SymmFlow.published(UNET, Palette(2, 1)), task),
        "semflow": lambda task: unified(SemFlow(UNET, wide, heads="ends"), task),
        "symmflow": lambda task: unified(symm(), task),
        # The improved form: separate times, labels by cross-entropy, the symmetry of the law. And what the
        # symmetry alone does for the others.
        "turned-symmflow": lambda task: turned(unified(symm(), task)),
        "turned-unet-ce": lambda task: turned(one_way(UNET, "labels", task)),
        "turned-flow-to-field": lambda task: turned(one_way_flow("field", task)),
        # Parts of it changed one at a time; only on request.
        "symmflow-function-noise": lambda task: unified(symm(noise=function_noise), task),
        "symmflow-target-head": lambda task: unified(symm(field_head="target"), task),
        "symmflow-label-velocity": lambda task: unified(symm(label_head="velocity"), task),
        "symmflow-early-times": lambda task: unified(symm(skew=2.0), task),
    }


def train(module, loss: Callable, seconds: float) -> int:
    """AdamW with a cosine, moving average of the weights, for so many CPU seconds; returns the steps.

    `loss` draws its own batches.
    """
    import torch

    from opflow.training import TrainConfig
    from opflow.training.optim import EMA, learning_rate, make_optimizer

    config = TrainConfig(learning_rate=2e-3, warmup=0.05, ema=0.999)
    parameters = list(module.parameters())
    optimizer, average = make_optimizer(config, parameters), EMA(parameters, config.ema)
    start, step = time.process_time(), 0
    while (progress := (time.process_time() - start) / seconds) < 1:
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(config, progress)
        value = loss()
        optimizer.zero_grad()
        value.backward()
        torch.nn.utils.clip_grad_norm_(parameters, config.clip_norm)
        optimizer.step()
        average.update(step)
        step += 1
    average._swap()
    module.eval()
    return step


def batches(seed: int, *of, size: int = 32, turned: bool = False) -> Callable:
    """A function that draws batches of tensors that belong together, `turned` by quarters and mirrored."""
    import torch

    generator = torch.Generator().manual_seed(seed)

    def draw():
        index = torch.randint(len(of[0]), (size,), generator=generator)
        parts = [x[index] for x in of]
        if turned:
            quarters, mirror = (int(torch.randint(n, (), generator=generator)) for n in (4, 2))
            parts = [x.rot90(quarters, (-2, -1)) for x in parts]
            parts = [(x.mT if mirror else x).contiguous() for x in parts]
        return [*parts, generator]

    return draw


def conditional_scores(drawn, task) -> tuple[float, float, float]:
    """CRPS, sliced Wasserstein distance and spread ratio of draws `(mask, draw, *space)`."""
    import torch

    from opflow import metrics

    scale = float(task.fields.std())
    generator, draws = torch.Generator().manual_seed(0), drawn.shape[1]
    scores = [metrics.crps(drawn, task.law[:, j]).mean() for j in range(task.law.shape[1])]
    distances = [
        metrics.sliced_wasserstein(a, b[:draws], 128, generator=generator) for a, b in zip(drawn, task.law)
    ]
    spread = float(metrics.diversity_ratio(drawn, task.law).square().mean().sqrt())
    return float(torch.stack(scores).mean()) / scale, sum(distances) / len(distances) / scale, spread


def evaluate(model: Model, task, draws: int) -> dict[str, float]:
    import torch

    from opflow import metrics

    row: dict[str, float] = {}
    fields, labels = task.tests
    with torch.no_grad():
        if model.segment:
            for name, n in (("miou_1", 1), ("miou_n", EVALUATIONS)):
                row[name] = metrics.mean_iou(model.segment(fields, n), labels, 2)
        repeated = labels.repeat_interleave(draws, 0)
        if model.mean:
            once = model.draw is None
            found = model.mean(labels if once else repeated)
            found = found if once else found.unflatten(0, (-1, draws)).mean(1)
            row["mean"] = float(metrics.relative_l2(found, task.law.mean(1, keepdim=True)).mean())
        if model.draw:
            growing = {"method": "midpoint", "n_steps": EVALUATIONS // 2, "power": 2.0}
            for suffix, solver in (("", {"n_steps": EVALUATIONS}), ("_p", growing)):
                drawn = model.draw(repeated, **solver)[:, 0].unflatten(0, (-1, draws))
                for name, value in zip(("crps", "swd", "spread"), conditional_scores(drawn, task)):
                    row[name + suffix] = value
    return row


def floors(task, draws: int) -> dict[str, dict[str, float]]:
    """What the truth scores, and what those do that know nothing."""
    import torch

    from opflow import metrics

    fields, labels = task.tests
    crps, swd, spread = conditional_scores(task.perfect, task)
    mean = metrics.relative_l2(task.perfect.mean(1, keepdim=True), task.law.mean(1, keepdim=True)).mean()
    average = task.training[0].mean(0, keepdim=True)
    most = int(task.training[1].float().mean() > 0.5)
    blind = metrics.relative_l2(
        average.expand(len(labels), -1, -1, -1), task.law.mean(1, keepdim=True)
    ).mean()
    # Fields of other masks: the law without its condition.
    index = torch.randint(TRAINING, (len(labels), draws), generator=torch.Generator().manual_seed(0))
    unconditional = conditional_scores(task.training[0][index, 0], task)
    return {
        "truth": {"mean": float(mean), "crps": crps, "swd": swd, "spread": spread},
        "mean": {"mean": float(blind)},
        "majority": {"miou_1": metrics.mean_iou(torch.full_like(labels, most), labels, 2)},
        "any-mask": dict(zip(("crps", "swd", "spread"), unconditional)),
    }


def finished(key: tuple) -> bool:
    if not ROWS.exists():
        return False
    with ROWS.open(newline="") as file:
        return any(
            tuple(row[c] for c in ("task", "model", "seed", "seconds")) == key for row in csv.DictReader(file)
        )


def write(row: dict) -> None:
    new = not ROWS.exists()
    row = {"date": harness.now(), "machine": harness.machine(), **row}
    row = {c: f"{v:.4f}" if isinstance(v := row.get(c, ""), float) and c in METRICS else v for c in COLUMNS}
    print(*(f"{c} {row[c]}" for c in COLUMNS[3:] if row[c] != ""), sep=", ", flush=True)
    with ROWS.open("a", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS)
        if new:
            writer.writeheader()
        writer.writerow(row)


def main() -> None:
    global ROWS
    known = tuple(models())
    usual = [name for name in known if not name.startswith("symmflow-") or name == "symmflow-published"]
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--tasks", nargs="+", choices=tuple(TASKS), default=["darcy"])
    parser.add_argument("--models", nargs="+", choices=known, default=usual)
    parser.add_argument("--seconds", type=float, default=180.0, help="CPU seconds of training per model")
    parser.add_argument("--masks", type=int, default=128, help="test pairs")
    parser.add_argument("--draws", type=int, default=8, help="fields drawn for each of them")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--rows", type=Path, default=ROWS, help="where the rows are kept")
    options = parser.parse_args()
    ROWS = options.rows
    import torch

    for name in options.tasks:
        keys = {m: (name, m, str(s), str(options.seconds)) for s in options.seeds for m in options.models}
        if all(map(finished, keys.values())):
            continue
        task = TASKS[name](options.masks, options.draws)
        if not finished((name, "truth", "0", str(options.seconds))):
            for model, row in floors(task, options.draws).items():
                write({"task": name, "model": model, "seed": 0, "seconds": options.seconds, **row})
        for seed in options.seeds:
            for model_name in options.models:
                if finished((name, model_name, str(seed), str(options.seconds))):
                    continue
                torch.manual_seed(seed)
                model = models()[model_name](task)
                draw = batches(seed, *task.training, turned=model.turned)
                steps = train(model.module, lambda m=model, d=draw: m.loss(*d()), options.seconds)
                count = sum(p.numel() for p in model.module.parameters())
                head = {"task": name, "model": model_name, "seed": seed, "seconds": options.seconds}
                scores = evaluate(model, task, options.draws)
                write({**head, "parameters": count, "steps": steps, **scores})


if __name__ == "__main__":
    harness.pin_threads(1)
    main()
