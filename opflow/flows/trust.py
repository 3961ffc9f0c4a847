"""Whether a field belongs to the distribution that a flow, and an operator, was trained on."""

import math
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from opflow.flows.base import Flow
from opflow.flows.conditions import as_batch


class OODScore(nn.Module):
    r"""Scores of fields against a reference set, by a flow: the larger, the less a field belongs.

    Train the flow on the inputs of an operator, give the score held-out inputs as reference, and ask it about
    new ones before trusting the operator's predictions. Three scores, all zero on average over fields like
    the reference, in units of their standard deviation:

    - `"likelihood"`: how improbable, :math:`-\log p(x)`. Blind to fields that are too smooth, which are more
      probable than all that were seen.
    - `"typicality"`: how far from the usual log-density, on either side.
    - `"latent"`: how unusual the noise is, level by level: the Mahalanobis distance of the logarithms of its
      energies, :math:`\log \lVert z \rVert^2`, and of those of its differences between neighbours, which tell
      whether it is white. Sees scales that are too strong or too weak one by one.

    Args:
        flow: a trained flow.
        reference: fields that belong, `(sample, channels, rows, columns)`, better not those it was trained
            on; some hundreds or more.
        cond: their conditions, if the flow has any.

    Raises:
        ValueError: the reference has fewer than 32 fields.

    Source: Nalisnick, Matsukawa, Teh and Lakshminarayanan, Detecting Out-of-Distribution Inputs Using
    Typicality, 2019.

    Example:
        >>> from opflow.flows import FieldFlow
        >>> flow = FieldFlow((1, 8, 8), levels=1, steps=1, hidden_channels=4).eval()
        >>> score = OODScore(flow, torch.randn(64, 1, 8, 8))
        >>> usual, smooth = torch.randn(3, 1, 8, 8), 0.1 * torch.randn(3, 1, 8, 8)
        >>> bool(score(smooth).min() > score(usual).max()), score.in_distribution(smooth).tolist()
        (True, [False, False, False])
    """

    feature_mean: Tensor
    whitening: Tensor
    log_prob_moments: Tensor
    raw_moments: Tensor
    reference_scores: Tensor

    def __init__(self, flow: Flow, reference: Tensor, cond: Tensor | None = None):
        super().__init__()
        if len(reference) < 32:
            raise ValueError(f"the reference should hold at least 32 fields, got {len(reference)}")
        self.flow = flow
        log_prob, features = self._statistics(reference, cond)
        mean, whitening = _whitening(features)
        self.register_buffer("feature_mean", mean)
        self.register_buffer("whitening", whitening)
        self.register_buffer("log_prob_moments", torch.stack([log_prob.mean(), log_prob.std()]))
        raw = self._raw(log_prob, features)
        # Fields lie nearer to a mean that they went into themselves than new fields do.
        for fold in range(_FOLDS):
            inside = torch.arange(len(reference)) % _FOLDS == fold
            raw[2, inside] = _distance(features[inside], *_whitening(features[~inside]))
        self.register_buffer("raw_moments", torch.stack([raw.mean(1), raw.std(1)]))
        self.register_buffer("reference_scores", self._standard(raw).sort(1).values)

    KINDS = ("likelihood", "typicality", "latent")
    """Names of the scores."""

    def forward(self, x: Tensor, cond: Tensor | None = None, kind: str = "latent") -> Tensor:
        """Return the scores `(batch,)` of fields, in float64.

        Raises:
            ValueError: there is no such kind, or the fields do not fit the flow.
        """
        return self._standard(self._raw(*self._statistics(x, cond)))[self._index(kind)]

    def p_value(self, x: Tensor, cond: Tensor | None = None, kind: str = "latent") -> Tensor:
        """Return the share of the reference, counting the field itself, that scores at least as high.

        Under the reference distribution it is uniform: below 0.01 in one of a hundred fields.
        """
        scores, reference = self(x, cond, kind), self.reference_scores[self._index(kind)]
        above = len(reference) - torch.searchsorted(reference, scores)
        return (above + 1) / (len(reference) + 1)

    def in_distribution(
        self, x: Tensor, cond: Tensor | None = None, kind: str = "latent", level: float = 0.02
    ) -> Tensor:
        """Return whether `p_value` exceeds a level, which is the rate of false alarms."""
        return self.p_value(x, cond, kind) > level

    def _index(self, kind: str) -> int:
        if kind not in self.KINDS:
            raise ValueError(f"kind must be one of {', '.join(self.KINDS)}, got {kind!r}")
        return self.KINDS.index(kind)

    def _raw(self, log_prob: Tensor, features: Tensor) -> Tensor:
        usual, spread = self.log_prob_moments
        distance = _distance(features, self.feature_mean, self.whitening)
        return torch.stack([-log_prob, (log_prob - usual).abs() / spread, distance])

    def _standard(self, raw: Tensor) -> Tensor:
        mean, spread = self.raw_moments
        return (raw - mean[:, None]) / spread[:, None]

    @torch.no_grad()
    def _statistics(self, x: Tensor, cond: Tensor | None) -> tuple[Tensor, Tensor]:
        """Return log-densities `(batch,)` and features of the noise `(batch, feature)`, in float64."""
        cond = as_batch(cond, self.flow.condition, len(x), next(self.flow.parameters()))
        was_training = self.flow.training
        self.flow.eval()
        log_probs, features = [], []
        for start in range(0, max(len(x), 1), _BATCH):
            part = slice(start, start + _BATCH)
            z, logdet = self.flow(x[part], None if cond is None else cond[part])
            z = z.double()
            log_probs.append(logdet.double() - 0.5 * (z.square() + math.log(2 * math.pi)).sum(1))
            features.append(torch.stack(list(_features(z, self.flow)), 1))
        self.flow.train(was_training)
        return torch.cat(log_probs), torch.cat(features)


_BATCH = 256
_FOLDS = 8


def _whitening(features: Tensor) -> tuple[Tensor, Tensor]:
    """Return mean and whitening matrix of features `(sample, feature)`."""
    mean = features.mean(0)
    centred = features - mean
    covariance = centred.T @ centred / (len(features) - 1)
    # Shrunk towards its diagonal, so that it is invertible however few fields there are.
    share = min(0.5, len(mean) / len(features))
    covariance = (1 - share) * covariance + share * covariance.diagonal().diag()
    factor = torch.linalg.cholesky(covariance)
    identity = torch.eye(len(mean)).to(factor)
    return mean, torch.linalg.solve_triangular(factor, identity, upper=False)


def _distance(features: Tensor, mean: Tensor, whitening: Tensor) -> Tensor:
    """Return the Mahalanobis distance of features `(sample, feature)` from the mean."""
    return ((features - mean) @ whitening.T).square().sum(1).sqrt()


def _features(z: Tensor, flow: Flow) -> Iterator[Tensor]:
    """Yield logarithms of mean squares of the noise: quarters of the channels, and differences, per level."""
    end = 0
    for (channels, stay), grid in zip(flow.body.sizes, flow.body.grids):
        leaving = channels - stay
        start, end = end, end + leaving * math.prod(grid)
        noise = z[:, start:end].unflatten(1, (leaving, *grid))
        for quarter in noise.chunk(min(4, leaving), 1):
            yield _log_mean_square(quarter)
        for axis in (2, 3):
            if noise.shape[axis] > 1:
                yield _log_mean_square(noise.diff(dim=axis))


def _log_mean_square(x: Tensor) -> Tensor:
    return x.flatten(1).square().mean(1).clamp_min(1e-30).log()
