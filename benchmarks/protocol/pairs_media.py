"""Phases of a medium and the pressure in it: random media, and slices of a rock."""

import abc
import io
import zipfile

import numpy as np
import torch

from pde_data.equations.darcy import Darcy as Equation
from protocol.pairs import GRID, TRAINING, Pairs, real_data


class Media(Pairs):
    """Phases of a medium and pressures, with hidden contrast and source."""

    n_classes, turns = 2, True
    contrast: tuple[float, float]
    """Least and largest permeability of the second phase over that of the first."""

    def __init__(self, masks: int, draws: int, seed: int = 0):
        self.equation = Equation(resolution=GRID)
        phases = self._phases(TRAINING + masks, seed)
        rng = np.random.default_rng(seed + 1)
        labels = torch.as_tensor(phases).long()
        fields = self._solve(phases, self._hidden(len(phases), rng), rng)
        self.training = fields[:TRAINING], labels[:TRAINING]
        self.tests = fields[TRAINING:], labels[TRAINING:]
        # Twice the draws, stratified, are the reference: its means are those of the law up to a percent.
        tested = phases[TRAINING:]
        reference = [self._hidden(2 * draws, rng, stratified=True) for _ in tested]
        again = np.repeat(tested, 2 * draws, 0)
        self.law = self._solve(again, np.concatenate(reference, 1), rng).unflatten(0, (masks, -1))
        again = np.repeat(tested, draws, 0)
        self.perfect = self._solve(again, self._hidden(len(again), rng), rng).unflatten(0, (masks, -1))

    @abc.abstractmethod
    def _phases(self, n: int, seed: int) -> np.ndarray:
        """Return where media are of the second phase `(n, *grid)`, those for training first."""

    def known(self, fields: torch.Tensor) -> dict[str, torch.Tensor]:
        """Return nothing: of a pressure alone nothing is known."""
        return {}

    def _hidden(self, n: int, rng, stratified: bool = False) -> np.ndarray:
        """Logarithm of the contrast, and source, 1/2 to 3/2: `(2, n)`."""
        u = rng.random((2, n))
        if stratified:
            u = (np.stack([rng.permutation(n) for _ in range(2)]) + u) / n
        low, high = np.log(self.contrast)
        return np.stack([low + u[0] * (high - low), 0.5 + u[1]])

    def _solve(self, phases: np.ndarray, hidden: np.ndarray, rng) -> torch.Tensor:
        contrast, source = hidden[..., None, None]
        u, _ = self.equation.solve(self.equation.low * np.where(phases, np.exp(contrast), 1.0))
        u = source * u  # the equation is linear in the source
        u += 0.01 * u.std((1, 2), keepdims=True) * rng.standard_normal(u.shape)
        return torch.as_tensor(u.astype(np.float32))[:, None]


class Darcy(Media):
    """Random media, of the second phase where a Gaussian field is positive."""

    contrast = 2.0, 8.0

    def _phases(self, n: int, seed: int) -> np.ndarray:
        return self.equation.permeability(seed, range(n), self.equation.grid) > self.equation.low


class Rock(Media):
    """Grains and pores of Ketton limestone, slices of a micro-CT volume."""

    contrast = 8.0, 64.0
    _WINDOW, _STRIDE = 128, 32  # voxels of a slice, every fourth of which is kept
    _SEEN, _UNSEEN = range(192), range(208, 256)  # layers for training and for the tests

    def _phases(self, n: int, seed: int) -> np.ndarray:
        from PIL import Image, ImageSequence

        with zipfile.ZipFile(real_data("ketton.zip")) as archive:
            image = Image.open(io.BytesIO(archive.read("ketton.tif")))
        volume = np.stack([np.asarray(page) for page in ImageSequence.Iterator(image)])
        pores = volume < (int(volume.min()) + int(volume.max())) / 2
        rng = np.random.default_rng(seed)
        counts = ((TRAINING, self._SEEN), (n - TRAINING, self._UNSEEN))
        return np.concatenate([self._slices(pores, count, layers, rng) for count, layers in counts])

    def _slices(self, pores: np.ndarray, n: int, layers: range, rng) -> np.ndarray:
        """Random windows of random layers, a majority of 4 x 4 voxels in each cell, turned and mirrored."""
        block = self._WINDOW // GRID
        found = []
        for _ in range(n):
            layer = pores[layers[rng.integers(len(layers))]]
            i, j = self._STRIDE * rng.integers((np.array(layer.shape) - self._WINDOW) // self._STRIDE + 1)
            window = layer[i : i + self._WINDOW, j : j + self._WINDOW]
            cells = window.reshape(GRID, block, GRID, block).mean((1, 3)) > 0.5
            cells = np.rot90(cells, rng.integers(4))
            found.append(cells.T if rng.random() < 0.5 else cells)
        return np.stack(found)
