r"""Channel-wise linear maps that signs split into blocks, :math:`x \mapsto H (V H x + b)`.

H is the Walsh-Hadamard transform over 1, 2 or 4 groups of channels, sums and differences; V is
block-diagonal. A map between features of a point group takes this form, because it commutes with turning back
all slots by a half
turn or a mirror: it halves or quarters the multiplications. One block is a plain linear map.
"""

import torch
from torch import Tensor
from torch.nn.functional import linear


def walsh(x: Tensor, blocks: int) -> Tensor:
    """Apply H to the channels of `(..., channel)`; twice is `blocks` times the identity.

    Example:
        >>> walsh(torch.tensor([3.0, 1.0]), 2)
        tensor([4., 2.])
    """
    if blocks == 1:
        return x
    one, other = x.chunk(2, -1)
    halves = (walsh(one + other, blocks // 2), walsh(one - other, blocks // 2))
    return torch.cat(halves, -1)


def block_linear(x: Tensor, v: Tensor, b: Tensor | None = None) -> Tensor:
    """Map `(..., blocks * n)` to `(..., blocks * m)` with v `(blocks, m, n)` and b `(blocks * m,)`.

    A plain map has v `(m, n)`.
    """
    if v.ndim == 2:
        return linear(x, v, b)
    blocks = len(v)
    y = torch.einsum("...bn,bmn->...bm", walsh(x, blocks).unflatten(-1, (blocks, -1)), v).flatten(-2)
    return walsh(y if b is None else y + b, blocks)
