"""What models of pairs score, and the floors of the scores."""

from collections.abc import Callable

import torch
from torch import Tensor

from opflow import metrics
from protocol.pairs import Pairs
from protocol.pairs_models import Model

EVALUATIONS = 16
_CONDITIONAL = ("crps", "swd", "spread")


def conditional_scores(drawn: Tensor, task: Pairs) -> tuple[float, float, float]:
    """CRPS, sliced Wasserstein distance and spread ratio of draws `(test, draw, channel, *space)`."""
    assert task.law is not None
    scale = task.moments[1]
    drawn, law = drawn / scale, task.law / scale
    generator, draws = torch.Generator().manual_seed(0), drawn.shape[1]
    scores = [metrics.crps(drawn, law[:, j]).mean() for j in range(law.shape[1])]
    distances = [
        metrics.sliced_wasserstein(a, b[:draws], 128, generator=generator) for a, b in zip(drawn, law)
    ]
    spread = float(metrics.diversity_ratio(drawn, law).square().mean().sqrt())
    return float(torch.stack(scores).mean()), sum(distances) / len(distances), spread


def law_of_all(fields: Tensor, task: Pairs) -> dict[str, float]:
    """Distances of fields, one for each test, from the test fields, half against the other half."""
    scale, half = task.moments[1], len(fields) // 2
    truth = task.tests[0][half : 2 * half]
    generator = torch.Generator().manual_seed(0)
    swd = metrics.sliced_wasserstein(fields[:half] / scale, truth / scale, 256, generator=generator)
    spectrum = metrics.spectrum_distance(fields, task.tests[0], shells=min(task.space) // 4)
    return {"swd_all": swd, "spectrum": float(spectrum.mean())}


def known(fields: Tensor, labels: Tensor, task: Pairs) -> dict[str, float]:
    """What the task knows of drawn fields: whether they have the labels asked for, and numbers."""
    found = task.known(fields)
    scores = {name: float(value.mean()) for name, value in found.items() if name != "labels"}
    return scores | ({"again": agreement(found["labels"], labels, task)} if "labels" in found else {})


def agreement(found: Tensor, labels: Tensor, task: Pairs) -> float:
    """Mean intersection over union of maps, the share that is right of labels of whole fields."""
    if task.whole:
        return metrics.pixel_accuracy(found, labels)
    return metrics.mean_iou(found, labels, task.n_classes)


@torch.no_grad()
def evaluate(model: Model, task: Pairs, draws: int) -> dict[str, float]:
    """All scores of a model that it can have."""
    row: dict[str, float] = {}
    fields, labels = task.tests
    if model.segment:
        for name, n in (("miou_1", 1), ("miou_n", EVALUATIONS)):
            row[name] = agreement(model.segment(fields, n), labels, task)
    if task.law is not None:
        row |= _under_labels(model, task, draws)
    if model.draw:
        growing = {"method": "midpoint", "n_steps": EVALUATIONS // 2, "power": 2.0}
        drawn = model.draw(labels, **growing)
        row |= law_of_all(drawn, task) | known(drawn, labels, task)
    return row


def _under_labels(model: Model, task: Pairs, draws: int) -> dict[str, float]:
    """Scores of fields under given labels, by the law that solvers draw from."""
    assert task.law is not None
    row: dict[str, float] = {}
    labels, scale = task.tests[1], task.moments[1]
    repeated = labels.repeat_interleave(draws, 0)
    if model.mean:
        once = model.draw is None
        found = model.mean(labels if once else repeated)
        found = found if once else found.unflatten(0, (-1, draws)).mean(1)
        row["mean"] = float(metrics.relative_l2(found / scale, task.law.mean(1) / scale).mean())
    if model.draw:
        growing = {"method": "midpoint", "n_steps": EVALUATIONS // 2, "power": 2.0}
        for suffix, solver in (("", {"n_steps": EVALUATIONS}), ("_p", growing)):
            drawn = model.draw(repeated, **solver).unflatten(0, (-1, draws))
            row |= dict(zip((name + suffix for name in _CONDITIONAL), conditional_scores(drawn, task)))
    return row


def floors(task: Pairs, draws: int) -> dict[str, dict[str, float]]:
    """What the truth scores, and what those do that know nothing."""
    fields, labels = task.tests
    most = torch.full_like(labels, int(task.training[1].flatten().bincount().argmax()))
    lot = torch.Generator().manual_seed(0)
    train, _ = task.training
    others = train[torch.randint(len(train), (len(fields),), generator=lot)]
    rows = {
        "truth": law_of_all(fields, task) | known(fields, labels, task),
        "majority": {"miou_1": agreement(most, labels, task)},
        "any-labels": law_of_all(others, task) | known(others, labels, task),
    }
    if task.law is not None and task.perfect is not None:
        scale = task.moments[1]
        mean, average = task.law.mean(1) / scale, train.mean(0, keepdim=True) / scale
        rows["truth"]["mean"] = float(metrics.relative_l2(task.perfect.mean(1) / scale, mean).mean())
        rows["truth"] |= dict(zip(_CONDITIONAL, conditional_scores(task.perfect, task)))
        rows["mean"] = {"mean": float(metrics.relative_l2(average.expand_as(mean), mean).mean())}
        # Fields of other labels: the law without its condition.
        index = torch.randint(len(train), (len(labels), draws), generator=lot)
        rows["any-labels"] |= dict(zip(_CONDITIONAL, conditional_scores(train[index], task)))
    return rows


def batches(seed: int, *of: Tensor, size: int = 32, turned: bool = False) -> Callable[[], list]:
    """A function that draws batches of tensors that belong together, `turned` by quarters and mirrored.

    It hands on its generator as well.
    """
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
