"""neuraloperator's own training, by its `Trainer`, `AdamW` and normalisers, for comparison with our loop."""

import contextlib
import io
import time
import warnings
from collections.abc import Callable


def train_neuraloperator(
    model,
    inputs,
    targets,
    *,
    epochs: int,
    batch_size: int,
    learning_rate: float,
    weight_decay: float = 1e-4,
    step_size: int,
    gamma: float = 0.5,
    seed: int = 0,
) -> tuple[Callable, float]:
    """Train by neuraloperator's published recipe: H1 loss, AdamW, StepLR, channel-wise Gaussian normalisers.

    Returns the trained map from raw fields to raw fields, and the seconds that `Trainer.train` took.
    """
    import torch
    from neuralop import H1Loss, LpLoss, Trainer
    from neuralop.data.transforms.data_processors import DefaultDataProcessor
    from neuralop.data.transforms.normalizers import UnitGaussianNormalizer
    from neuralop.training import AdamW

    axes = [0, *range(2, inputs.ndim)]
    normalizers = []
    for field in (inputs, targets):
        normalizers.append(UnitGaussianNormalizer(dim=axes))
        normalizers[-1].fit(field)
    processor = DefaultDataProcessor(in_normalizer=normalizers[0], out_normalizer=normalizers[1])

    class Pairs(torch.utils.data.Dataset):
        def __len__(self):
            return len(inputs)

        def __getitem__(self, i):
            return {"x": inputs[i], "y": targets[i]}

    loader = torch.utils.data.DataLoader(
        Pairs(), batch_size, shuffle=True, generator=torch.Generator().manual_seed(seed)
    )
    optimizer = AdamW(model.parameters(), lr=learning_rate, weight_decay=weight_decay)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, step_size=step_size, gamma=gamma)
    trainer = Trainer(
        model=model,
        n_epochs=epochs,
        device="cpu",
        data_processor=processor,
        eval_interval=epochs + 1,
        verbose=False,
    )
    h1 = H1Loss(d=inputs.ndim - 2)
    start = time.perf_counter()
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        trainer.train(
            train_loader=loader,
            test_loaders={},
            optimizer=optimizer,
            scheduler=scheduler,
            regularizer=False,
            training_loss=h1,
            eval_losses={"l2": LpLoss(d=inputs.ndim - 2, p=2)},
        )
    seconds = time.perf_counter() - start
    model.eval()

    @torch.no_grad()
    def predict(x):
        return normalizers[1].inverse_transform(model(normalizers[0].transform(x)))

    return predict, seconds
