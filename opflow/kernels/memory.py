"""Large CPU tensors from memory that was used before.

Memory fresh from the system is faulted in page by page when it is first written, which costs several times
what a cheap operation does in it; the C allocator returns large blocks to the system as soon as they are
free. Here a block goes back to a pool when its tensor's storage dies, as on a GPU.
"""

import math
import weakref
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

_SMALLEST = 1 << 18  # bytes; the C allocator keeps smaller blocks itself
_MOST_IDLE = 1 << 30  # bytes

_idle: dict[int, list[np.ndarray]] = {}


def empty(shape: Sequence[int], like: Tensor) -> Tensor:
    """Return an uninitialised tensor with the dtype and device of `like`; large ones cannot be resized.

    Example:
        >>> import torch
        >>> empty((3, 512, 512), torch.zeros((), dtype=torch.float64)).shape
        torch.Size([3, 512, 512])
    """
    size = math.prod(shape) * like.element_size()
    if size < _SMALLEST or like.device.type != "cpu":
        return like.new_empty(shape)
    try:
        block = _idle[size].pop()
    except (KeyError, IndexError):
        block = np.empty(size, np.uint8)
    lent = block[:]  # the storage holds this view; with it the block comes back
    weakref.finalize(lent, _give_back, block).atexit = False
    return torch.from_numpy(lent).view(like.dtype).view(shape)


def _give_back(block: np.ndarray) -> None:
    if block.nbytes > _MOST_IDLE:
        return
    if sum(size * len(blocks) for size, blocks in list(_idle.items())) + block.nbytes > _MOST_IDLE:
        _idle.clear()  # other sizes than those in use now
    _idle.setdefault(block.nbytes, []).append(block)
