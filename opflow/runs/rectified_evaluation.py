"""What a rectified flow has learnt: labels of unseen fields, and how its samples compare with the data."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.utils.data import Dataset

from opflow import metrics
from opflow.rectified import FunctionalFlow, RectifiedFlow, SemFlow, SymmFlow
from opflow.training.batches import Batches

if TYPE_CHECKING:
    from opflow.runs.evaluation import Evaluation

SHOWN, COUNTED = 36, 256  # samples in pictures and in statistics
_CHUNK = 64


@torch.no_grad()
def evaluate_rectified(flow: RectifiedFlow, dataset: Any, *, batch_size: int = 32) -> "Evaluation":
    """Measure a rectified flow on a data set.

    Args:
        flow: evaluated where its parameters are.
        dataset: pairs of a field and its labels (`opflow.runs.labels.Labelled`) for `SemFlow` and `SymmFlow`;
            of a condition and a field, on a grid or on meshes, for `FunctionalFlow`.
        batch_size: samples at a time.

    Returns:
        Under "errors" the loss; of labels `mean_iou` and `pixel_accuracy`, or `accuracy`, and the same of
        labels found again in samples under "round_trip"; of as many samples as data, under the same labels
        or conditions, `histogram` (see `metrics.histogram_distance`) and `swd`, the sliced Wasserstein
        distance over the deviation of the data, beside `swd_floor`, that of two halves of the data. On
        meshes the distance is that of means against cosines. On periodic grids there is the "spectrum" of
        data and samples. The arrays are `data` and `samples`, on meshes those of the first mesh, and with
        maps of labels `labels` and `found`.

    Raises:
        ValueError: the data are not pairs for this flow.
    """
    from opflow.runs.evaluation import Evaluation, summary

    like, was_training = next(flow.parameters()), flow.training
    flow.eval()
    with torch.random.fork_rng([like.device] if like.is_cuda else []):
        torch.manual_seed(0)
        losses = [
            flow.pair_loss(x, y, *points).reshape(1).double().cpu()
            for x, y, *points in _pairs(dataset, batch_size, like)
        ]
        if isinstance(flow, SemFlow | SymmFlow):
            found = _with_labels(flow, dataset, like)
        elif isinstance(flow, FunctionalFlow) and flow.network.on_points:
            found = _on_meshes(flow, dataset, like)
        else:
            assert isinstance(flow, FunctionalFlow)
            found = _on_grids(flow, dataset, like)
    flow.train(was_training)
    numbers: dict[str, Any] = {
        "pairs": len(dataset),
        "errors": {"loss": summary(losses)} | found.numbers["errors"],
    }
    return Evaluation(found.numbers | numbers, found.sample)


def _pairs(dataset: Dataset, batch_size: int, like: Tensor) -> Iterator[tuple[Tensor, ...]]:
    for batch in Batches(dataset, batch_size).epoch(0):
        for piece in batch.pieces:
            yield tuple(t.to(like) for t in (piece.x, piece.y, *piece.points))


def _with_labels(flow: SemFlow | SymmFlow, dataset: Any, like: Tensor) -> "Evaluation":
    from opflow.runs.evaluation import Evaluation

    labels, found = [], []
    for x, y in _pairs(dataset, _CHUNK, like):
        labels.append(y[:, 0].round().long())
        found.append(_labels_of(flow, x, labels[-1]))
    all_labels, all_found = torch.cat(labels), torch.cat(found)
    x = next(_pairs(dataset, COUNTED, like))[0]
    given = all_labels[: len(x)]
    samples = _synthesise(flow, given, tuple(x.shape[2:]))
    again = _labels_of(flow, samples, given)
    numbers = _of_samples(samples, x, dataset)
    numbers["errors"] |= _agreement(all_found, all_labels, flow.codec.n_classes)
    numbers["round_trip"] = {k: v["mean"] for k, v in _agreement(again, given, flow.codec.n_classes).items()}
    arrays = {"data": x, "samples": samples}
    if given.ndim > 1:
        arrays |= {"labels": given, "found": all_found}
    return Evaluation(numbers, {name: _array(values) for name, values in arrays.items()})


def _labels_of(flow: SemFlow | SymmFlow, x: Tensor, like: Tensor) -> Tensor:
    """Labels by one step where the flow is made for it: of whole fields where those of `like` are."""
    if isinstance(flow, SemFlow):
        return flow.segment(x, n_steps=1 if flow.heads == "ends" else None).labels
    return (flow.segment if like.ndim > 1 else flow.classify)(x, seed=0).labels


def _synthesise(flow: SemFlow | SymmFlow, labels: Tensor, grid: tuple[int, ...]) -> Tensor:
    if isinstance(flow, SemFlow):
        return flow.synthesise(labels, seed=0, chunk=_CHUNK).samples
    return flow.synthesise(labels, grid, seed=0, chunk=_CHUNK).samples


def _agreement(found: Tensor, labels: Tensor, n_classes: int) -> dict[str, dict[str, float | None]]:
    right = metrics.pixel_accuracy(found, labels)
    if labels.ndim == 1:
        return {"accuracy": _single(right)}
    return {"mean_iou": _single(metrics.mean_iou(found, labels, n_classes)), "pixel_accuracy": _single(right)}


def _on_grids(flow: FunctionalFlow, dataset: Any, like: Tensor) -> "Evaluation":
    from opflow.runs.evaluation import Evaluation

    if hasattr(dataset, "mesh"):
        raise ValueError(f"{dataset.name} has meshes: use a flow whose network works on points, such as MINO")
    x, y = next(_pairs(dataset, COUNTED, like))
    given = x if flow.condition_channels else None
    samples = flow.sample(len(y), tuple(y.shape[2:]), condition=given, seed=0, chunk=_CHUNK).samples
    return Evaluation(_of_samples(samples, y, dataset), {"data": _array(y), "samples": _array(samples)})


def _on_meshes(flow: FunctionalFlow, dataset: Any, like: Tensor) -> "Evaluation":
    from opflow.runs.evaluation import Evaluation

    if not hasattr(dataset, "mesh"):
        raise ValueError(f"{dataset.name} has grids: use a flow whose network works on grids, such as FNO")
    generator = torch.Generator(like.device).manual_seed(0)
    values: dict[str, list[Tensor]] = {"data": [], "samples": []}
    waves: dict[str, list[Tensor]] = {"data": [], "samples": []}
    corners = [torch.as_tensor(dataset.mesh(i).points) for i in range(min(len(dataset), COUNTED))]
    low, high = torch.cat(corners).aminmax(dim=0)
    box: dict[str, Any] = {"lengths": (high - low).tolist(), "origin": low.tolist()}
    for x, y, coords, weights in _pairs(dataset, 8, like):
        if sum(map(len, waves["data"])) >= COUNTED:
            break
        geometry = flow.network.geometry(coords, weights)
        given = x.mT if flow.condition_channels else None
        samples = flow.sample(len(y), geometry, condition=given, seed=generator).samples.mT
        for name, u in (("data", y), ("samples", samples)):
            waves[name].append(metrics.cosine_means(u, coords, weights, **box))
            values[name].append(u.transpose(0, 1)[:, weights > 0])
    samples, data = (torch.cat(waves[name]) for name in ("samples", "data"))
    errors = _distances(samples, data)
    samples, data = (torch.cat(values[name], 1)[None] for name in ("samples", "data"))
    errors["histogram"] = _single(float(metrics.histogram_distance(samples, data).mean()))
    coords, x, y, weights = (part[None].to(like) for part in dataset[0])
    geometry = flow.network.geometry(coords[0], weights[0])
    given = x.expand(9, -1, -1) if flow.condition_channels else None
    shown = flow.sample(9, geometry, condition=given, seed=0).samples.mT
    mesh = dataset.mesh(0)
    arrays = {"samples": _array(shown), "data": _array(y.mT)}
    return Evaluation(
        {"errors": errors}, arrays | {"points": mesh.points, "triangles": mesh.triangles, "tags": mesh.tags}
    )


def _of_samples(samples: Tensor, data: Tensor, dataset: Any) -> dict[str, Any]:
    from opflow.runs.evaluation import spectra

    errors = _distances(samples, data)
    errors["histogram"] = _single(float(metrics.histogram_distance(samples, data).mean()))
    images = bool(getattr(dataset, "of_images", hasattr(dataset, "bins")))
    return {"errors": errors, "images": images} | spectra(getattr(dataset, "grid", None), data, samples)


def _distances(samples: Tensor, data: Tensor) -> dict[str, dict[str, float | None]]:
    """Distance of samples and data, as many each as a half of the data has, and that of two halves."""
    half = len(data) // 2
    if half < 2:
        return {}
    scale = float(data.std())
    generator = torch.Generator(data.device).manual_seed(0)

    def distance(a: Tensor, b: Tensor) -> float:
        return metrics.sliced_wasserstein(a, b, 128, generator=generator) / scale

    floor = metrics.two_halves(distance, data, 10, generator)
    found = distance(samples[:half], data[half : 2 * half])
    return {"swd": _single(found), "swd_floor": _single(float(floor.mean()))}


def _single(value: float) -> dict[str, float | None]:
    return {"mean": value, "standard_error": None}


def _array(values: Tensor):
    return values[:SHOWN].float().cpu().numpy()
