"""The Deep Conjugate Direction Method: a network that proposes search directions."""

from __future__ import annotations

import copy
import sys
import time
import warnings
from os import PathLike
from pathlib import Path
from typing import Any, Self, final

import numpy as np
import torch
from torch import Tensor

from solvers.dcdm_network import DCDMNetwork
from solvers.grid import GridPoisson
from solvers.preconditioner import Preconditioner, pretrained

_LINEAR_ONLY = ("cg", "minres", "gmres", "bicgstab", "bicg", "cgs", "lgmres", "qmr", "tfqmr")
_WARNING = (
    "scipy's {} assumes a linear preconditioner, and DCDMPreconditioner is not linear: it may stagnate or "
    "return a wrong answer. Use solvers.fcg(A, b, M=M, m=2), the Deep Conjugate Direction Method, or "
    "scipy.sparse.linalg.gcrotmk"
)


@final
class DCDMPreconditioner(Preconditioner):
    r"""A network as a nonlinear approximation of the inverse of a `GridPoisson` operator.

    $$ M(r) = |r|\, f_\theta(r / |r|), $$

    with the residual scattered on the grid, zero in solid cells, and padded with zeros to sizes that the
    network can halve. Only the residual is seen: a network trained on a box is used with obstacles as it is.
    `fcg(A, b, M=M, m=2)` is the published method, and is safe for any network; `scipy.sparse.linalg.gcrotmk`
    works, too. SciPy's other solvers assume linearity: they get a `UserWarning` when they first call it. One
    comes from `setup`, too, where the faces of the box are not those of the training. On a CPU it takes few
    steps but not little time: one costs some fifty of incomplete Cholesky (`benchmarks/dcdm.py`).

    Args:
        network: the network, which is copied.
        dtype: precision inside, float32 or float64. Vectors keep theirs.
        trained: what is known of the training, JSON values; kept by `save`.

    Raises:
        ValueError: `dtype` is another.

    Source: Kaneda, Akar, Chen, Kala, Hyde and Teran, A Deep Conjugate Direction Method for Iteratively
    Solving Linear Systems, ICML 2023.

    Example:
        >>> import numpy as np
        >>> from solvers import fcg
        >>> mask = np.ones((40, 40), bool)
        >>> mask[10:20, 15:30] = False
        >>> op = GridPoisson(mask)
        >>> M = DCDMPreconditioner.from_pretrained("dcdm2d").setup(op)
        >>> fcg(op, np.ones(op.shape[0]), M=M, m=2, rtol=1e-4, maxiter=40).converged
        True
    """

    is_linear = False
    is_spd = False

    def __init__(
        self, network: DCDMNetwork, *, dtype: Any = np.float32, trained: dict[str, Any] | None = None
    ):
        super().__init__()
        self.inner_dtype = np.dtype(dtype)
        if self.inner_dtype not in (np.float32, np.float64):
            raise ValueError(f"dtype={dtype} should be float32 or float64")
        self.network = copy.deepcopy(network).eval().requires_grad_(False)
        self.network.to(torch.float64 if self.inner_dtype == np.float64 else torch.float32)
        self.trained = dict(trained or {})
        self._warned = False

    def setup(self, op: GridPoisson) -> Self:
        """Take the grid of an operator; return the preconditioner itself.

        Raises:
            TypeError: the operator is not a `GridPoisson`.
            ValueError: the network is for another number of axes.
        """
        if not isinstance(op, GridPoisson):
            raise TypeError(
                f"DCDMPreconditioner works on a GridPoisson, got {type(op).__name__}: make one of a sparse "
                "matrix on a grid with GridPoisson.from_csr"
            )
        start = time.perf_counter()
        sizes = op.mask.shape
        if len(sizes) != self.network.ndim:
            raise ValueError(
                f"the operator has a grid of {len(sizes)} axes, the network is for {self.network.ndim}"
            )
        self._levels = self.network.levels_on(sizes)
        unit = 2**self._levels
        padded = tuple(-(-size // unit) * unit for size in sizes)
        inside = tuple(slice(size) for size in sizes)
        # torch's fast convolution in three dimensions takes two samples or more, so there is one of zeros.
        alone = self.network.odd or self.inner_dtype == np.float64 or len(sizes) == 2
        self._grid = np.zeros((1 if alone else 2, 1, *padded), self.inner_dtype)
        self._fluid = self._grid[0, 0][inside]
        self._inside, self._mask = inside, op.mask
        self._project = op.project if op.stencil.components[1].any() else None
        self._warned = False
        self._compare(op)
        self._begin(op.shape[0])
        self.setup_seconds = time.perf_counter() - start
        return self

    def apply(self, r: np.ndarray) -> np.ndarray:
        """Apply the network to a vector `(size,)`."""
        if not self._warned:
            self._warn_linear_solvers()
        size = float(np.linalg.norm(r.astype(np.float64, copy=False)))
        if size == 0 or not np.isfinite(size):
            return r * 0.0  # NaN for what is not finite
        self._fluid[self._mask] = r / size
        with torch.no_grad():
            direction = self.network(torch.from_numpy(self._grid), self._levels)[0, 0].numpy()
        z = (direction[self._inside][self._mask] * size).astype(r.dtype)
        return z if self._project is None else self._project(z).astype(r.dtype)

    def _compare(self, op: GridPoisson) -> None:
        """Warn of an operator whose box has other faces than that of the training."""
        ends, known = [list(pair) for pair in op.stencil.ends], self.trained.get("ends")
        if known is not None and ends != known:
            warnings.warn(
                f"this network was trained on a box with faces {known}, the operator has {ends}: expect many "
                "more iterations, or train one with train_dcdm",
                UserWarning,
                stacklevel=3,
            )

    def _warn_linear_solvers(self) -> None:
        """Look for a solver of SciPy that assumes linearity among the callers."""
        frame = sys._getframe(1)
        while frame is not None:
            name = frame.f_code.co_name
            module = frame.f_globals.get("__name__", "")
            if name in _LINEAR_ONLY and module.startswith("scipy.sparse.linalg"):
                self._warned = True
                warnings.warn(_WARNING.format(name), UserWarning, stacklevel=2)
                return
            frame = frame.f_back

    def save(self, folder: str | PathLike, *, half: bool = False) -> None:
        """Write `model.safetensors` and `config.json` into a folder, weights as float16 if `half`."""
        from opflow.save import write_json, write_tensors

        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        state: dict[str, Tensor] = self.network.state_dict()
        if half:
            state = {name: value.half() for name, value in state.items()}
        write_tensors(folder / "model.safetensors", state)
        config = {"class": "DCDMPreconditioner", "network": self.network.config, "trained": self.trained}
        write_json(folder / "config.json", config)

    @classmethod
    def load(cls, folder: str | PathLike, *, dtype: Any = np.float32) -> Self:
        """Read what `save` wrote. Nothing is unpickled.

        Raises:
            FileNotFoundError: the folder lacks one of the two files.
            ValueError: the files are damaged, are of another class, or do not fit each other; the message
                names the tensors that were expected.
        """
        from opflow.save import read_json, read_tensors

        folder = Path(folder)
        for name in ("config.json", "model.safetensors"):
            if not (folder / name).is_file():
                raise FileNotFoundError(f"{folder} has no {name}; DCDMPreconditioner.save writes both files")
        config = read_json(folder / "config.json")
        arguments = config.get("network")
        if config.get("class") != "DCDMPreconditioner" or not isinstance(arguments, dict):
            raise ValueError(
                f'{folder}/config.json describes a {config.get("class")!r}, expected a "DCDMPreconditioner" '
                'with the arguments of its "network"'
            )
        try:
            network = DCDMNetwork(**arguments)
        except (TypeError, ValueError) as error:
            raise ValueError(f"{folder}/config.json describes no network: {error}") from error
        state, _ = read_tensors(folder / "model.safetensors")
        wanted = {name: tuple(value.shape) for name, value in network.state_dict().items()}
        found = {name: tuple(value.shape) for name, value in state.items()}
        for name in sorted(wanted.keys() | found.keys()):
            if wanted.get(name) != found.get(name):
                raise ValueError(
                    f"{folder}/model.safetensors is not of the network in its config.json: expected {name} "
                    f"of shape {wanted.get(name, 'none')}, found {found.get(name, 'none')}"
                )
        network.load_state_dict({name: value.float() for name, value in state.items()})
        return cls(network, dtype=dtype, trained=config.get("trained"))

    @classmethod
    def from_pretrained(cls, name: str, *, dtype: Any = np.float32) -> Self:
        """Load weights that come with the package, "dcdm2d" or "dcdm3d"; `trained` says on what they were.

        Raises:
            ValueError: there are no weights of this name.
        """
        return cls.load(pretrained(name, "dcdm"), dtype=dtype)
