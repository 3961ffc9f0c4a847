"""What a training run is made of: one typed, frozen record."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal


@dataclass(frozen=True)
class TrainConfig:
    """Everything `opflow.fit` needs to know besides model and data. JSON values only.

    Raises:
        ValueError: a value is out of range; the message names the field.

    Example:
        >>> config = TrainConfig(epochs=20, learning_rate=2e-3)
        >>> TrainConfig.from_dict(config.to_dict()) == config
        True
    """

    epochs: int = 100
    """Passes over the training set. Ignored when a time budget is set."""
    batch_size: int = 16
    """Samples per optimiser step, over all processes and accumulation pieces together."""
    learning_rate: float = 1e-3
    """Largest learning rate of the schedule."""
    optimizer: Literal["adamw", "adam", "sgd"] = "adamw"
    """Update rule; sgd has Nesterov momentum 0.9."""
    weight_decay: float = 1e-4
    """Decay of the weights: decoupled for adamw, an L2 penalty for adam and sgd."""
    schedule: Literal["cosine", "onecycle", "step", "constant"] = "cosine"
    """How the learning rate moves with the progress of the run, see `opflow.training.SCHEDULES`."""
    warmup: float = 0.02
    """Share of the run in which the learning rate rises linearly (onecycle brings its own rise)."""
    clip_norm: float = 1.0
    """Largest norm of the gradient; 0 leaves it alone."""
    ema: float = 0.0
    """Decay of the moving average of the weights, which is then evaluated and saved; 0 for none."""
    loss: str = "h1"
    """Name of the loss, see `opflow.training.LOSSES`."""
    predict: Literal["field", "increment"] = "field"
    """What an unfitted normaliser is fitted for: the target itself, or its change since the last frame."""
    noise: float = 0.0
    """Gaussian noise on the training inputs, in units of the spread of each channel over the batch."""
    transpose: bool = False
    """Exchange the two space axes of every other training sample, chosen at random: data for nothing where
    the law treats both axes alike and the fields are scalars on a square grid."""
    query_points: int = 0
    """At scattered points: evaluate each training sample at so many of its points only, drawn anew at every
    step, and take the loss there; 0 for all. The input is always seen at all points."""
    pushforward: bool = False
    """With several target frames: take the loss, and gradients, of the last one only (Brandstetter 2022)."""
    rollout_steps: int = 0
    """Steps of the rollout on validation trajectories after each epoch; 0 for none."""
    patience: int = 0
    """Stop after so many epochs without a better validation error; 0 never stops early."""
    budget_seconds: float = 0.0
    """Train for this wall time (evaluation and saving not counted) rather than for `epochs`. The schedule
    then follows the clock, so such a run is not reproducible bit by bit. 0 for no budget."""
    accumulate: int = 1
    """Pieces into which each batch is cut to save memory; the result does not depend on it."""
    precision: Literal["fp32", "bf16"] = "fp32"
    """bf16 runs the model under autocast; weights, losses and the optimiser keep their precision."""
    compile: bool = False
    """Compile model and loss with torch.compile for the training steps."""
    checkpoint_activations: bool = False
    """Recompute the activations of each block in the backward pass, to save memory."""
    workers: int = 0
    """Processes that read the data; 0 reads in the training process."""
    save_seconds: float = 30.0
    """Time between saves of the state to resume from; 0 saves after every step."""
    seed: int = 0
    """Seed of the order of the samples and of Python's, NumPy's and torch's generators."""
    tracker: str | None = None
    """Experiment tracker known to Accelerate, such as tensorboard or wandb."""

    def __post_init__(self):
        for name in ("epochs", "batch_size", "accumulate"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.learning_rate <= 0:
            raise ValueError(f"learning_rate must be positive, got {self.learning_rate}")
        for name in ("warmup", "ema"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name} must be in [0, 1), got {getattr(self, name)}")
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if isinstance(value, int | float) and value < 0:
                raise ValueError(f"{field.name} must not be negative, got {value}")
            choices = getattr(field.type, "__args__", ())
            if getattr(field.type, "__origin__", None) is Literal and value not in choices:
                raise ValueError(f"{field.name} must be one of {', '.join(choices)}, got {value!r}")

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as JSON values."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "TrainConfig":
        """Build the record from what `to_dict` returned.

        Raises:
            ValueError: a field is unknown.
        """
        known = [field.name for field in dataclasses.fields(cls)]
        unknown = sorted(set(values) - set(known))
        if unknown:
            raise ValueError(f"TrainConfig has no field {', '.join(unknown)}; it has {', '.join(known)}")
        return cls(**values)
