"""Train a model: one loop, from top to bottom."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.utils.data import Dataset

from opflow.operators.base import Operator
from opflow.training import checkpoint
from opflow.training.batches import Batches
from opflow.training.config import TrainConfig
from opflow.training.evaluate import evaluate
from opflow.training.losses import make_loss
from opflow.training.objective import Loss, Objective
from opflow.training.optim import EMA, learning_rate, make_optimizer
from opflow.training.prepare import frame_channels, real_dtype, seed_everything
from opflow.training.run_folder import RunFolder, environment
from opflow.training.statistics import fit_normalizer


@dataclass
class Progress:
    """Where a run stands: JSON values, saved with the weights."""

    epoch: int = 0  # finished epochs
    batch: int = 0  # finished batches of the next one
    step: int = 0
    seconds: float = 0.0
    loss_sum: float = 0.0  # over the samples of the epoch in hand
    samples: int = 0
    best: float = math.inf
    best_epoch: int = 0


@dataclass
class FitResult:
    """What `fit` returns.

    Attributes:
        model: the model that was trained, holding its best weights.
        history: the rows of `metrics.jsonl`, one per epoch.
        test: errors of the best weights on each test set, `{name: {"loss": ..., "l2": ...}}`.
        best_epoch: epoch of the best weights, counted from 1.
        folder: where the run was written, or None.
    """

    model: nn.Module
    history: list[dict[str, Any]]
    test: dict[str, dict[str, float]] = field(default_factory=dict)
    best_epoch: int = 0
    folder: Path | None = None


def fit(
    model: nn.Module,
    train: Dataset,
    valid: Dataset | None = None,
    *,
    loss: str | Loss | None = None,
    config: TrainConfig = TrainConfig(),
    folder: str | Path | None = None,
    resume: bool = False,
    test: Mapping[str, Dataset] | None = None,
) -> FitResult:
    """Train a model on pairs of fields; one process or, under torchrun or accelerate launch, several."""
    from accelerate import Accelerator
    from accelerate.state import AcceleratorState
    from tqdm import tqdm

    # One process may call `fit` several times, with different precisions.
    AcceleratorState._reset_state()
    accelerator = Accelerator(
        mixed_precision="bf16" if config.precision == "bf16" else "no",
        log_with=config.tracker,
        project_dir=folder,
    )
    rank, processes, device = accelerator.process_index, accelerator.num_processes, accelerator.device
    loss = make_loss(config.loss if loss is None else loss, train)
    run = None if folder is None else RunFolder(folder, resume)
    saved = run.read_state() if run else None

    seed_everything(config.seed + rank)
    dtype = real_dtype(model)
    channels = frame_channels(model, train, dtype)
    if saved is None and isinstance(model, Operator) and not model.normalizer.fitted:
        fit_normalizer(model.normalizer, train, config.predict == "increment")

    objective: nn.Module = Objective(model.to(device), loss, channels, config.noise, config.pushforward)
    if config.compile:
        objective.compile()
    optimizer = make_optimizer(config, objective.parameters())
    objective, prepared = accelerator.prepare(objective, optimizer)
    # Accelerate's wrapper of `step` looks for an optional package twice per step; without a gradient scaler
    # it does nothing else.
    optimizer = prepared.optimizer
    parameters = [p for p in objective.parameters() if p.requires_grad]
    ema = EMA(parameters, config.ema) if config.ema > 0 else None

    sharing = {
        "rank": rank,
        "processes": processes,
        "workers": config.workers,
        "pin_memory": device.type == "cuda",
    }
    batches = Batches(train, config.batch_size, seed=config.seed, pieces=config.accumulate, **sharing)
    valid_batches = None if valid is None else Batches(valid, config.batch_size, **sharing)

    progress, history = Progress(), []
    best_weights = checkpoint.weights(model)
    if run:
        if accelerator.is_main_process:
            run.create()
            run.write_json("env.json", environment(device, processes))
            history = run.start_metrics(saved[1]["progress"]["epoch"] if saved else 0)
    if saved:
        tensors, record = saved
        progress = Progress(**record["progress"])
        checkpoint.unpack(tensors, model, optimizer, ema.averages if ema else [])
        checkpoint.set_random_state(record["random"])
        best_weights = run.read_model()

    def save() -> None:
        tensors = checkpoint.pack(model, optimizer, ema.averages if ema else [])
        record = {
            "progress": asdict(progress),
            "random": checkpoint.random_state(),
            "config": config.to_dict(),
        }
        if run and accelerator.is_main_process:
            run.write_model(model, best_weights, config.to_dict())
            run.write_state(tensors, record)

    started, last_save = time.perf_counter() - progress.seconds, time.perf_counter()
    total_steps = config.epochs * len(batches)
    loss_sum = torch.tensor(progress.loss_sum, dtype=torch.float64, device=device)
    objective.train()
    while progress.epoch < config.epochs:
        bar = tqdm(
            batches.epoch(progress.epoch, progress.batch),
            desc=f"epoch {progress.epoch + 1}",
            total=len(batches),
            initial=progress.batch,
            leave=False,
            disable=None if accelerator.is_main_process else True,
        )
        for batch in bar:
            rate = learning_rate(config, (progress.step + 0.5) / total_steps)
            for group in optimizer.param_groups:
                group["lr"] = rate
            for i, (x, y, count) in enumerate(batch.pieces, start=1):
                x, y = x.to(device, dtype, non_blocking=True), y.to(device, dtype, non_blocking=True)
                last = i == len(batch.pieces)
                with contextlib.nullcontext() if last else accelerator.no_sync(objective):
                    value = objective(x, y)
                    share = count * processes / batch.size
                    accelerator.backward(value if share == 1 else value * share)
                loss_sum += value.detach() * count
            if config.clip_norm > 0:
                accelerator.clip_grad_norm_(parameters, config.clip_norm)
            optimizer.step()
            optimizer.zero_grad()
            if ema:
                ema.update(progress.step)
            progress.step += 1
            progress.batch += 1
            progress.samples += batch.size
            progress.seconds = time.perf_counter() - started
        train_loss = accelerator.reduce(loss_sum).item() / progress.samples
        loss_sum.zero_()
        progress.epoch, progress.batch, progress.samples = progress.epoch + 1, 0, 0
        row = {
            "epoch": progress.epoch,
            "step": progress.step,
            "seconds": progress.seconds,
            "learning_rate": rate,
            "train_loss": train_loss,
        }
        with ema.applied() if ema else contextlib.nullcontext():
            if valid_batches is not None:
                errors = evaluate(objective, loss, valid_batches, accelerator, dtype)
                row |= {f"valid_{name}": value for name, value in errors.items()}
            if valid is None or errors["l2"] < progress.best:
                progress.best, progress.best_epoch = row.get("valid_l2", math.inf), progress.epoch
                best_weights = checkpoint.weights(model)
        history.append(row)
        if run and accelerator.is_main_process:
            run.log(row)
        save()
        started = time.perf_counter() - progress.seconds

    checkpoint.load_weights(model, best_weights)
    result = FitResult(model, history, best_epoch=progress.best_epoch, folder=run and run.path)
    return result
