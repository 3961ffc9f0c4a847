"""Handwritten digits and what they say."""

from torch import Tensor

from opflow.runs.images import open_images
from protocol.pairs import Pairs, real_data
from protocol.recogniser import recogniser


class Digits(Pairs):
    """The 10,000 test images of MNIST, 8,000 for training and the last 2,000 for the tests."""

    n_classes, seconds = 10, 600.0

    def __init__(self, masks: int, draws: int, seed: int = 0):
        labels, images = open_images(real_data("t10k-images-idx3-ubyte.gz")).tensors
        images, labels = images / 255, labels[:, 0].long()
        self.training = images[:8000], labels[:8000]
        self.tests = images[8000:], labels[8000:]
        self._recognise = recogniser(*self.training, seconds=60.0)

    def known(self, fields: Tensor) -> dict[str, Tensor]:
        """Return the labels that a network says which was trained apart."""
        return {"labels": self._recognise(fields).argmax(1)}
