"""Scores of how far a field lies from those that a flow was trained on."""

import pytest
import torch

from opflow.flows import FieldFlow
from opflow.trust import OODScore


def fields(n: int, decay: float = 2.0, amplitude: float = 1.0, seed: int = 0) -> torch.Tensor:
    """Periodic Gaussian fields on 8 x 8 points, energy falling with the wavenumber."""
    generator = torch.Generator().manual_seed(seed)
    k = torch.fft.fftfreq(8, 1 / 8)
    size = (1 + k[:, None] ** 2 + k**2) ** (-decay / 2)
    noise = torch.randn(n, 1, 8, 8, generator=generator)
    return 10 * amplitude * torch.fft.ifft2(torch.fft.fft2(noise) * size).real


@pytest.fixture(scope="module")
def score() -> OODScore:
    torch.manual_seed(0)
    data = fields(1024)
    flow = FieldFlow((1, 8, 8), levels=2, steps=2, layer="finc", hidden_channels=16)
    flow.fit_normalization(data)
    optimizer = torch.optim.Adamax(flow.parameters(), 5e-3)
    for step in range(80):
        optimizer.zero_grad()
        (-flow.log_prob(data[step % 8 * 128 :][:128]).mean()).backward()
        optimizer.step()
    return OODScore(flow.eval(), fields(512, seed=1))


def auroc(usual: torch.Tensor, unusual: torch.Tensor) -> float:
    return float((unusual[:, None] > usual).double().mean())


def test_fields_of_another_spectrum_or_size_are_found(score):
    usual = score(fields(256, seed=2))
    for other in (
        fields(256, decay=2.6, seed=3),
        fields(256, decay=1.5, seed=3),
        fields(256, amplitude=1.5, seed=3),
    ):
        assert auroc(usual, score(other)) > 0.9
    assert 0.45 < auroc(usual, score(fields(256, seed=4))) < 0.55


def test_too_smooth_fields_are_more_probable_and_yet_not_typical(score):
    usual, smooth = fields(256, seed=2), fields(256, decay=3.0, seed=3)
    assert auroc(score(usual, kind="likelihood"), score(smooth, kind="likelihood")) < 0.1
    assert auroc(score(usual, kind="typicality"), score(smooth, kind="typicality")) > 0.8
    rough = fields(256, decay=1.5, seed=3)
    assert auroc(score(usual, kind="likelihood"), score(rough, kind="likelihood")) > 0.9


@pytest.mark.parametrize("kind", OODScore.KINDS)
def test_p_values_are_uniform_on_the_reference_distribution(score, kind):
    p = score.p_value(fields(2000, seed=5), kind=kind).sort().values
    uniform = torch.linspace(0, 1, 2000)
    # Kolmogorov and Smirnov, two samples of 512 and 2000, far out in the tail.
    assert (p - uniform).abs().max() < 2.0 * (1 / 512 + 1 / 2000) ** 0.5
    alarms = (~score.in_distribution(fields(2000, seed=5), kind=kind, level=0.05)).double().mean()
    assert 0.01 < alarms < 0.11


def test_fields_like_the_reference_score_zero_on_average_and_one_in_deviation(score):
    usual = fields(2000, seed=5)
    for kind in OODScore.KINDS:
        scores = score(usual, kind=kind)
        # Four standard errors of the mean of 512; deviations of the tails are less certain.
        assert abs(float(scores.mean())) < 4 / 512**0.5 and abs(float(scores.std()) - 1) < 0.25


def test_false_alarms_are_as_rare_as_said_with_a_small_reference(score):
    """Fields must not be measured by means that they went into: then 64 of them gave 5 to 10 % for 2 %."""
    usual = fields(2000, seed=5)
    references = fields(64 * 12, seed=6).split(64)
    alarms = torch.stack([~OODScore(score.flow, r).in_distribution(usual) for r in references])
    assert 0.005 < float(alarms.double().mean()) < 0.035


def test_a_condition_goes_with_each_field_or_with_all():
    torch.manual_seed(0)
    flow = FieldFlow((1, 8, 8), levels=1, steps=1, hidden_channels=4, condition=3)
    score = OODScore(flow, fields(64), cond=1)
    x = fields(5, seed=2)
    assert (
        torch.equal(score(x, cond=1), score(x, cond=torch.ones(5).long())) and len(score(x[:0], cond=1)) == 0
    )
    with pytest.raises(ValueError, match="condition=3: pass cond"):
        score(x)


def test_scores_are_saved_in_the_state_dict(score):
    other = OODScore(score.flow, fields(64, seed=9))
    other.load_state_dict(score.state_dict() | {"reference_scores": other.reference_scores})
    x = fields(8, seed=2)
    assert torch.equal(other(x), score(x))


def test_what_cannot_be_is_refused(score):
    with pytest.raises(ValueError, match="at least 32 fields, got 3"):
        OODScore(score.flow, fields(3))
    with pytest.raises(ValueError, match="kind must be one of likelihood, typicality, latent, got 'x'"):
        score(fields(2), kind="x")
