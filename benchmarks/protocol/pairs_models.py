"""Rectified flows and one-way networks for tasks of pairs, by name."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from opflow import build
from opflow.rectified import FunctionalFlow, GaussianProcess, Grey, OneHot, Palette, SemFlow, SymmFlow
from opflow.rectified.codecs import AnchorCodec
from protocol.pairs import Pairs

UNET = {"class": "UNet", "config": {"hidden_channels": 16, "multipliers": (1, 2, 4)}}
FNO = {"class": "FNO", "config": {"n_modes": (12, 12), "hidden_channels": 30}}


class Model:
    """What is trained, and what it can do: `segment(fields, n)`, `draw(labels, **solver)`, `mean(labels)`.

    A `turned` model sees each batch under a random symmetry of the square, which is one of the law.
    """

    def __init__(self, module, loss: Callable, segment=None, draw=None, mean=None):
        self.module, self.loss, self.segment, self.draw = module, loss, segment, draw
        self.turned = False
        self.mean = mean or (draw and (lambda y: draw(y, n_steps=1)))


def code_for(task: Pairs) -> AnchorCodec:
    """One channel for two labels, else one for each."""
    return Palette(2, 1) if task.n_classes == 2 else OneHot(task.n_classes)


def encoded(task: Pairs, codec: AnchorCodec, labels: Tensor) -> Tensor:
    """Codes `(n, channel, *space)`, constant where labels are of whole fields."""
    code = codec.encode(labels)
    if not task.whole:
        return code
    return code[:, :, None, None].expand(-1, -1, *task.space)


def one_way(architecture: dict[str, Any], target: str, task: Pairs) -> Model:
    """A network trained for one direction alone: labels by cross-entropy, or fields by least squares."""
    mean, std = task.moments
    channels, codec = mean.shape[1], code_for(task)
    sizes = (channels, task.n_classes) if target == "labels" else (codec.channels, channels)
    net = build(architecture["class"], **architecture["config"], in_channels=sizes[0], out_channels=sizes[1])
    if target == "labels":

        def logits(x):
            found = net((x - mean) / std)
            return found.mean((2, 3)) if task.whole else found

        return Model(
            net, lambda x, y, g: cross_entropy(logits(x), y), segment=lambda x, n: logits(x).argmax(1)
        )

    def field(y):
        return net(encoded(task, codec, y))

    def loss(x, y, g):
        return (field(y) - (x - mean) / std).square().mean()

    return Model(net, loss, mean=lambda y: std * field(y) + mean)


def one_way_flow(target: str, task: Pairs, matcher: bool = False) -> Model:
    """A conditional flow for one direction alone; with `matcher`, torchcfm draws points and velocities."""
    codec, (mean, std) = code_for(task), task.moments
    fields, labels = task.training
    to_field, sizes = target == "field", (mean.shape[1], codec.channels)
    channels, condition = sizes if to_field else sizes[::-1]
    flow = FunctionalFlow(UNET, channels=channels, condition_channels=condition)
    flow.fit_normalizer(fields if to_field else encoded(task, codec, labels))

    def draw(y, **solver):
        condition = encoded(task, codec, y)
        return flow.sample(len(y), task.space, condition=condition, seed=0, chunk=128, **solver).samples

    def segment(x, n):
        condition = (x - mean) / std
        found = flow.sample(len(x), task.space, condition=condition, seed=0, chunk=128, n_steps=n).samples
        return codec.decode(found.mean((2, 3)) if task.whole else found)

    def loss(x, y, g):
        if to_field:
            return flow.loss(x, encoded(task, codec, y), generator=g)
        return flow.loss(encoded(task, codec, y), (x - mean) / std, generator=g)

    if matcher:
        from torchcfm import ConditionalFlowMatcher

        match = ConditionalFlowMatcher(sigma=0.0)

        def loss(x, y, g):
            x1 = flow.normalize(x)
            t, xt, ut = match.sample_location_and_conditional_flow(torch.randn_like(x1), x1)
            state = torch.cat([xt, encoded(task, codec, y)], 1)
            return (flow.network(state, t[:, None]) - ut).square().mean()

    return Model(flow, loss, draw=draw) if to_field else Model(flow, loss, segment=segment)


def unified(flow: SemFlow | SymmFlow, task: Pairs) -> Model:
    """A flow that goes both ways."""
    flow.fit_normalizer(task.training[0])

    def segment(x, n):
        if isinstance(flow, SemFlow):
            return torch.cat([flow.segment(part, n_steps=n).labels for part in x.split(128)])
        find = flow.classify if task.whole else flow.segment
        return torch.cat([find(part, n_steps=n, seed=0).labels for part in x.split(128)])

    def draw(y, **solver):
        if isinstance(flow, SemFlow):
            return flow.synthesise(y, seed=0, chunk=128, **solver).samples
        return flow.synthesise(y, task.space, seed=0, chunk=128, **solver).samples

    return Model(flow, flow.loss, segment, draw)


def _turned(model: Model) -> Model:
    model.turned = True
    return model


def _semflow(task: Pairs, perturbation: float, **options: Any) -> Model:
    codec = Palette(task.n_classes, 1, perturbation=perturbation / (task.n_classes - 1))
    return unified(SemFlow(UNET, codec, task.moments[0].shape[1], **options), task)


def _symmflow(task: Pairs, **options: Any) -> Model:
    return unified(SymmFlow(UNET, code_for(task), task.moments[0].shape[1], **options), task)


def _published_symmflow(task: Pairs) -> Model:
    codec = Grey(task.n_classes) if task.whole else Palette(task.n_classes, 1)
    return unified(SymmFlow.published(UNET, codec, task.moments[0].shape[1]), task)


MODELS: dict[str, Callable[[Pairs], Model]] = {
    "unet-ce": lambda task: one_way(UNET, "labels", task),
    "fno-ce": lambda task: one_way(FNO, "labels", task),
    "unet-mse": lambda task: one_way(UNET, "field", task),
    "fno-mse": lambda task: one_way(FNO, "field", task),
    "flow-to-field": lambda task: one_way_flow("field", task),
    "flow-to-field-torchcfm": lambda task: one_way_flow("field", task, matcher=True),
    "flow-to-labels": lambda task: one_way_flow("labels", task),
    "semflow-published": lambda task: _semflow(task, 0.1),
    "symmflow-published": _published_symmflow,
    "semflow": lambda task: _semflow(task, 1.0, heads="ends"),
    "symmflow": _symmflow,
    # The improved form: separate times, labels by cross-entropy, the symmetry of the law. And what the
    # symmetry alone does for the others.
    "turned-symmflow": lambda task: _turned(_symmflow(task)),
    "turned-unet-ce": lambda task: _turned(one_way(UNET, "labels", task)),
    "turned-flow-to-field": lambda task: _turned(one_way_flow("field", task)),
}
"""The models by name, each a function of the task."""

ABLATIONS: dict[str, Callable[[Pairs], Model]] = {
    "symmflow-function-noise": lambda task: _symmflow(task, noise=GaussianProcess(length=0.05, nu=0.5)),
    "symmflow-target-head": lambda task: _symmflow(task, field_head="target"),
    "symmflow-label-velocity": lambda task: _symmflow(task, label_head="velocity"),
    "symmflow-early-times": lambda task: _symmflow(task, skew=2.0),
}
"""Parts of `symmflow` changed one at a time; only on request."""


def models_for(task: Pairs) -> tuple[str, ...]:
    """Names of the models that fit a task.

    SemFlow needs labels of points, turned models a law that turns, the mean field a law to be measured by.
    """
    without = (task.whole and "semflow", not task.turns and "turned", task.law is None and "-mse")
    return tuple(name for name in MODELS if not any(word and word in name for word in without))
