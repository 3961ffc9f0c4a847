"""Train a model: one loop, from top to bottom."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.utils.data import Dataset

from opflow.nn.generative import Generative
from opflow.operators.base import BaseOperator, placed
from opflow.training import checkpoint
from opflow.training.batches import Batches
from opflow.training.config import TrainConfig
from opflow.training.evaluate import evaluate, rollout_errors
from opflow.training.generative import OwnLoss, mean_loss, pairs_of, require_no_predictions
from opflow.training.losses import make_loss
from opflow.training.objective import Loss, Objective
from opflow.training.optim import EMA, learning_rate, make_optimizer
from opflow.training.prepare import (
    check_validation,
    frame_channels,
    real_dtype,
    recomputed_blocks,
    seed_everything,
    uncompiled,
)
from opflow.training.result import FitResult, Progress
from opflow.training.run_folder import RunFolder
from opflow.training.statistics import fit_normalizer

CHECK_EVERY = 50  # steps between looks at the loss, each of which waits for the device


def fit(
    model: nn.Module,
    train: Dataset,
    valid: Dataset | None = None,
    *,
    loss: str | Loss | None = None,
    config: TrainConfig | None = None,
    folder: str | Path | None = None,
    resume: bool = False,
    test: Mapping[str, Dataset] | None = None,
) -> FitResult:
    r"""Train a model on pairs of fields, or a model of a distribution on samples.

    The same call works in one process and, under `torchrun` or `accelerate launch`, in several: the batch is
    shared among them and the result is that of one process up to rounding. An operator whose normaliser has
    no statistics yet gets those of the training set. When a target holds several frames, the model is
    unrolled over them (see `TrainConfig.pushforward`).

    With `folder` the run can be killed at any moment and taken up again with `resume=True`: on a CPU it then
    ends with the weights of an undisturbed run, bit for bit, as long as the configuration stays the same.
    `epochs`, `budget_seconds`, `patience`, `workers`, `save_seconds`, `tracker` and `rollout_steps` may
    change. More `epochs` stretch the schedule: the learning rate goes on from the share of the new total that
    is done.

    Files of the run: `config.json` (model, and the configuration under "run"), `env.json`, `metrics.jsonl`
    (a row per epoch, and one with the errors on the test sets), `model.safetensors` (best weights, read by
    `opflow.load(folder)`) and `last/state.safetensors`.

    Args:
        model: maps `(batch, channel, *space)` to `(batch, channel, *space)`, or is a `PointOperator`, or a
            flow, which has a loss of its own; trained in place, and moved to the device that Accelerate
            chooses.
        train: pairs `(x, y)` of tensors `(channel, *space)`: a `pde_data.FieldDataset` or any torch data set;
            for a `PointOperator` a `pde_data.MeshDataset`, or any data set of `pde_data.PointBatch`. To a
            flow x is the condition, of no account without one, and y the sample.
        valid: pairs whose relative L2 error, for flows the loss, selects the best weights; without it, the
            last are kept.
        loss: name in `LOSSES` or a function `(prediction, target) -> scalar`, a mean over the batch; by
            default that of `config`. At points it is "l2", in norms by the quadrature weights, or a function
            `(prediction, target, weights) -> scalar` of `(batch, channel, point)` and `(batch, point)`.
        config: everything else.
        folder: where the run is written; None keeps it in memory.
        resume: go on from the state in `folder`, if there is one.
        test: further sets, evaluated at the end with the best weights, such as other resolutions.

    Returns:
        The model with its best weights, the history, and the errors on the test sets.

    Raises:
        ValueError: model, data, folder or configuration do not fit each other; the message says what to do.
        FloatingPointError: the loss is not finite any more.

    Example:
        >>> x = torch.randn(32, 1, 8, 8)
        >>> data = torch.utils.data.TensorDataset(x, 3 * x)
        >>> config = TrainConfig(epochs=20, learning_rate=0.3, loss="l2")
        >>> result = fit(torch.nn.Conv2d(1, 1, 1), data, config=config)
        >>> result.history[-1]["train_loss"] < 0.1
        True
    """
    config = config or TrainConfig()
    if isinstance(model, Generative):
        require_no_predictions(config)
    check_validation(config, valid)
    criterion = None if isinstance(model, Generative) else make_loss(loss or config.loss, train)
    if loss is not None:
        config = replace(
            config, loss=loss if isinstance(loss, str) else getattr(loss, "__name__", repr(loss))
        )
    with recomputed_blocks(model) if config.checkpoint_activations else contextlib.nullcontext():
        return _fit(model, train, valid, criterion, config, folder, resume, test or {})


def _fit(model, train, valid, criterion, config, folder, resume, test) -> FitResult:
    from accelerate import Accelerator
    from accelerate.state import AcceleratorState
    from accelerate.utils import broadcast, gather_object
    from tqdm import tqdm

    # One process, or one of several.
    AcceleratorState._reset_state()  # a program may call `fit` several times, with different precisions
    accelerator = Accelerator(
        cpu=not torch.accelerator.is_available(),  # or it would not join the processes of torchrun on CPUs
        mixed_precision="bf16" if config.precision == "bf16" else "no",
        log_with=config.tracker,
        project_dir=folder,
    )
    processes, rank, device = accelerator.num_processes, accelerator.process_index, accelerator.device
    main = accelerator.is_main_process

    def from_main(value: float) -> float:
        if processes == 1:
            return value
        shared: Any = broadcast(torch.tensor(value, dtype=torch.float64, device=device))
        return float(shared)

    # The data, and what an earlier part of the run left.
    def batches_of(dataset: Dataset, **options) -> Batches:
        options |= {"workers": config.workers, "pin_memory": device.type == "cuda"}
        return Batches(dataset, config.batch_size, rank=rank, processes=processes, **options)

    batches = batches_of(train, seed=config.seed, pieces=config.accumulate)
    valid_batches = None if valid is None else batches_of(valid)
    run = None if folder is None else RunFolder(folder, resume)
    saved = run.read_state(config) if run else None

    # The model: normalised, with its loss, compiled, distributed.
    seed_everything(config.seed + rank)
    dtype = real_dtype(model)
    generative = isinstance(model, Generative)
    channels = 0 if generative else frame_channels(model, train, dtype)
    if saved is None and isinstance(model, Generative):
        model.fit_statistics(pairs_of(train))
    elif saved is None and isinstance(model, BaseOperator) and not model.normalizer.fitted:
        fit_normalizer(model.normalizer, train, increment=config.predict == "increment")
    if saved:
        checkpoint.unpack_weights(saved[0], model)  # before anything is written: it may be another model
    if run and main:
        run.create(model, config, device, processes)
    options = (config.noise, config.pushforward, config.transpose, config.query_points)
    objective: nn.Module = (
        OwnLoss(model.to(device))
        if generative
        else Objective(model.to(device), criterion, channels, *options)
    )
    if config.compile:
        objective.compile()
    objective, prepared = accelerator.prepare(objective, make_optimizer(config, model.parameters()))
    # Accelerate's wrapper of `step` searches for an optional package at each call, which takes longer than
    # the step of a small model; without a gradient scaler it does nothing else.
    optimizer = prepared.optimizer
    parameters = [p for p in model.parameters() if p.requires_grad]
    ema = EMA(parameters, config.ema) if config.ema > 0 else None
    averaged = ema.applied if ema else contextlib.nullcontext
    if config.tracker:
        accelerator.init_trackers("opflow", {k: v for k, v in config.to_dict().items() if v is not None})

    # Where the run stands.
    progress, history, best_weights = Progress(), [], checkpoint.weights(model)
    if run and saved:
        tensors, record = saved
        progress = Progress(**record["progress"])
        checkpoint.unpack_optimizer(tensors, model, optimizer, ema)
        if rank < len(record["random"]):
            checkpoint.set_random_state(record["random"][rank])
        best_weights = run.read_model()
    if run and main:
        history = run.start_metrics(progress.epoch)
    loss_sum = torch.tensor(progress.loss_sum if main else 0.0, dtype=torch.float64, device=device)
    norm: Any = torch.zeros((), device=device)
    total_steps = config.epochs * len(batches)
    started, saved_at = time.perf_counter() - progress.seconds, time.perf_counter()

    def running_loss() -> float:
        reduced: Any = accelerator.reduce(loss_sum)
        progress.loss_sum = float(reduced)
        if not (math.isfinite(progress.loss_sum) and math.isfinite(norm)):
            raise FloatingPointError(
                f"the loss is not finite any more at step {progress.step} (epoch {progress.epoch + 1}, "
                f"learning rate {progress.learning_rate:.3g}): lower learning_rate, set clip_norm, use "
                "precision='fp32' if it is 'bf16', and make sure that the data hold no NaN"
            )
        return progress.loss_sum / max(progress.samples, 1)

    def save_if(due: bool) -> None:
        nonlocal saved_at, started
        if run and from_main(due):
            running_loss()
            tensors = checkpoint.pack(model, optimizer, ema)
            random = gather_object([checkpoint.random_state()])
            if main:
                run.write_model(best_weights)
                run.write_state(
                    tensors, {"progress": asdict(progress), "random": random, "config": config.to_dict()}
                )
            saved_at = time.perf_counter()
            started = saved_at - progress.seconds

    def errors_on(batches: Batches) -> dict[str, float]:
        if generative:
            return mean_loss(objective, batches, accelerator, dtype)
        return evaluate(objective, batches, criterion, accelerator, dtype)

    def finished() -> bool:
        if config.patience and progress.epoch - progress.best_epoch >= config.patience:
            return True
        if config.budget_seconds:
            return progress.seconds >= config.budget_seconds
        return progress.epoch >= config.epochs

    objective.train()
    while not finished():
        bar = tqdm(
            batches.epoch(progress.epoch, start=progress.batch),
            desc=f"epoch {progress.epoch + 1}",
            total=len(batches),
            initial=progress.batch,
            leave=False,
            disable=None if main else True,  # None: silent where the output is no terminal
        )
        for batch in bar:
            done = (progress.step + 0.5) / total_steps
            if config.budget_seconds:
                done = min(progress.seconds / config.budget_seconds, 1.0)
            progress.learning_rate = learning_rate(config, done)
            for group in optimizer.param_groups:
                group["lr"] = progress.learning_rate

            for i, (x, y, count, points) in enumerate(batch.pieces, start=1):
                x, y, *points = (placed(t, device, dtype) for t in (x, y, *points))
                with contextlib.nullcontext() if i == len(batch.pieces) else accelerator.no_sync(objective):
                    loss = objective(x, y, *points)
                    # Gradients are averaged over processes; this makes all samples of the batch count alike.
                    share = count * processes / batch.size
                    accelerator.backward(loss if share == 1 else loss * share)
                loss_sum += loss.detach() * count
            if config.clip_norm > 0:
                norm = accelerator.clip_grad_norm_(parameters, config.clip_norm)
            optimizer.step()
            optimizer.zero_grad()
            if ema:
                ema.update(progress.step)

            progress.step += 1
            progress.batch += 1
            progress.samples += batch.size
            progress.seconds = time.perf_counter() - started
            if config.budget_seconds:
                progress.seconds = from_main(progress.seconds)
                if finished():
                    break
            looked = progress.step % CHECK_EVERY == 0
            if looked:
                bar.set_postfix(loss=f"{running_loss():.3g}", refresh=False)
            if looked or processes == 1:
                save_if(time.perf_counter() - saved_at >= config.save_seconds)

        row = {
            "epoch": progress.epoch + 1,
            "step": progress.step,
            "seconds": progress.seconds,
            "learning_rate": progress.learning_rate,
            "train_loss": running_loss(),
        }
        loss_sum.zero_()
        progress.epoch, progress.batch, progress.samples = progress.epoch + 1, 0, 0
        with averaged(), uncompiled(config):
            if valid_batches:
                errors = errors_on(valid_batches)
                row |= {f"valid_{name}": value for name, value in errors.items()}
                if config.rollout_steps:
                    row["valid_rollout_l2"] = rollout_errors(
                        objective, valid, config.rollout_steps, device, dtype
                    )
            error = row.get("valid_loss" if generative else "valid_l2", math.inf)
            if not valid_batches or error < progress.best:
                progress.best, progress.best_epoch = error, progress.epoch
                best_weights = checkpoint.weights(model)
        history.append(row)
        accelerator.log(
            {key: value for key, value in row.items() if not isinstance(value, list)}, progress.step
        )
        if run and main:
            run.log(row)
        started = time.perf_counter() - progress.seconds
        save_if(time.perf_counter() - saved_at >= config.save_seconds)
    save_if(True)

    # The best weights, on the test sets.
    checkpoint.load_weights(model, best_weights)
    result = FitResult(model, history, best_epoch=progress.best_epoch, folder=run.path if run else None)
    with uncompiled(config):
        for name, dataset in test.items():
            result.test[name] = errors_on(batches_of(dataset))
    if test:
        row = {
            f"test_{name}_{key}": value
            for name, errors in result.test.items()
            for key, value in errors.items()
        }
        accelerator.log(row, progress.step)
        if run and main:
            run.log({"epoch": progress.best_epoch, "step": progress.step, "seconds": progress.seconds} | row)
    for tracker in accelerator.trackers:
        tracker.finish()
    return result
