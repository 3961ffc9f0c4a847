"""Codecs for labels: anchors, distances, perturbation, probabilities."""

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from opflow.rectified import Grey, OneHot, Palette, SignedDistance

PUBLISHED = Palette(171, 3, levels=6, step=50 / 127.5)
CODECS = [
    Palette(2, 1),
    Palette(5, 2),
    PUBLISHED,
    Palette(10, 3, levels=4, step=75 / 127.5, spread=True),
    OneHot(4),
    Grey(10),
    SignedDistance(2),
    SignedDistance(4, width=2.0),
]


def labels_for(codec, seed=0):
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.randint(codec.n_classes, (3, 5, 4), generator=generator)
    return coarse.repeat_interleave(3, 1).repeat_interleave(2, 2)


@pytest.mark.parametrize("codec", CODECS, ids=repr)
def test_perturbed_codes_decode_to_their_labels(codec):
    labels = labels_for(codec)
    code = codec.encode(labels)
    assert code.shape == (3, codec.channels, *labels.shape[1:])
    perturbed = codec.perturb(code, torch.Generator().manual_seed(1))
    assert torch.equal(codec.decode(code), labels) and torch.equal(codec.decode(perturbed), labels)
    width = (perturbed - code).abs().max()
    assert 0.9 * codec.gap / 4 < width <= codec.gap / 4 * 1.001
    p = codec.probabilities(perturbed)
    torch.testing.assert_close(p.sum(1), torch.ones(labels.shape))
    assert torch.equal(p.argmax(1), labels)


@settings(max_examples=20, deadline=None)
@given(st.integers(2, 60), st.integers(1, 3), st.booleans())
def test_anchors_of_any_palette_are_different(n_classes, depth, spread):
    anchors = Palette(n_classes, depth, spread=spread).anchors()
    assert len(anchors.unique(dim=0)) == n_classes and anchors.abs().max() <= 1


def test_the_published_palettes():
    colours = (127.5 * (PUBLISHED.anchors() + 1)).round().long().tolist()
    assert colours == [list(c) for c in itertools.islice(itertools.product(range(0, 300, 50), repeat=3), 171)]
    # +- 6.4 of 255 levels with the published width of 0.1.
    narrow = Palette(171, 3, levels=6, step=50 / 127.5, perturbation=0.1)
    code = narrow.encode(torch.zeros(1000, dtype=torch.long))
    levels = 127.5 * (narrow.perturb(code, torch.Generator().manual_seed(0)) - code).abs().max()
    assert 6.2 < levels <= 6.375
    grey = Grey(5).anchors().flatten()
    torch.testing.assert_close(grey, torch.tensor([-2.0, -1.0, 0.0, 1.0, 2.0]))
    assert Grey(5).gap == 1.0  # perturbed by a quarter of it on either side


def test_probabilities_are_those_of_blurred_anchors():
    codec, point = Grey(3), torch.tensor([[0.4]])
    weights = torch.exp(-((point - codec.anchors().T) ** 2) / (2 * (codec.gap / 4) ** 2))
    torch.testing.assert_close(codec.probabilities(point), weights / weights.sum())
    mean = codec.mean(codec.probabilities(point))
    torch.testing.assert_close(mean, (weights @ codec.anchors()) / weights.sum())


def test_signed_distances_of_a_disc():
    n, radius = 65, 20.0
    x = torch.arange(n) - 32.0
    r = (x[:, None] ** 2 + x**2).sqrt()
    code = SignedDistance(2, width=10.0).encode((r <= radius).long()[None])
    distance = 10 * torch.atanh(code[0, 0].double().clamp(-1 + 1e-7, 1 - 1e-7))
    near = (r - radius).abs() < 12
    assert (distance - (radius - r))[near].abs().max() < 0.8  # half a point, and the corners of points
    whole = SignedDistance(3).encode(torch.ones(1, 4, 4, dtype=torch.long))
    assert (whole[0, 1] > 0.99).all() and (whole[0, [0, 2]] < -0.99).all()


def test_labels_outside_of_a_codec_are_refused():
    for codec in (Palette(3), OneHot(3), Grey(3), SignedDistance(3)):
        for wrong in (3, -1):
            message = (
                rf"label {wrong} is outside of the {type(codec).__name__} of 3 classes: labels are 0 to 2"
            )
            with pytest.raises(ValueError, match=message):
                codec.encode(torch.tensor([[0, wrong, 1]]))
    with pytest.raises(ValueError, match="labels are integers, got torch.float32"):
        OneHot(2).encode(torch.zeros(1, 2))
    with pytest.raises(ValueError, match="make 4 colours, too few for n_classes=5"):
        Palette(5, 2, levels=2)
    with pytest.raises(ValueError, match="n_classes=1 must be at least 2"):
        Grey(1)
    with pytest.raises(ValueError, match=r"maps of labels \(batch, \*space\)"):
        SignedDistance(2).encode(torch.tensor([0, 1]))
