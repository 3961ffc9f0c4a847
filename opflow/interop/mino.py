"""Weights of the published MINO (yzshi5/MINO) for ours."""

import re
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from opflow.operators.mino import MINO

_NAMES = {
    "conditioner.mlp.0": "condition.0",
    "encoder.supernode_pooling.message.lift_ffn": "encoder.lift",
    "encoder.supernode_pooling.message.channel_mlp.fcs.0": "encoder.first",
    "encoder.supernode_pooling.message.channel_mlp.fcs.1": "encoder.second",
    "decoder.val_embed.0.proj": "decoder.value_first",
    "decoder.val_embed.2.proj": "decoder.value_second",
    "decoder.query_proj.0.proj": "decoder.query_first",
    "decoder.query_proj.2.proj": "decoder.query_second",
    "decoder.pred.0": "decoder.norm",
    "decoder.pred.1.proj": "decoder.project",
}
_IN_BLOCK = {
    "modulation.modulation": "modulation",
    "attn.q": "query",
    "attn.kv": "key_value",
    "attn.proj": "project",
    "mlp.fc1": "first",
    "mlp.fc2": "second",
}


def from_mino(
    state_dict: Mapping[str, Tensor],
    *,
    radius: float,
    n_heads: int = 4,
    coord_dim: int = 2,
    latent: Sequence[int] = (16, 16),
    domain: Sequence[Sequence[float]] | None = None,
) -> MINO:
    """Build our `MINO` from the weights of the published MINO-T with time, the same function to rounding.

    Sizes are read from the shapes; what they do not tell is asked for. Values are `(batch, point, channel)`
    here and `(batch, channel, point)` there.

    Args:
        state_dict: its parameters by name.
        radius: how far a latent node sees.
        n_heads: attention heads.
        coord_dim: number of coordinates.
        latent: nodes per axis of the latent grid, which the original is given as points, ends included.
        domain: its box; the unit box when None.

    Raises:
        ValueError: tensors are missing or unknown, or have shapes that do not fit.

    Source: https://github.com/yzshi5/MINO.
    """
    renamed = {
        _our_name(name): torch.as_tensor(value)
        for name, value in state_dict.items()
        # The kernel's perceptron is there twice, and frequencies follow from sizes.
        if not name.endswith(".omega") and ".integral_transform." not in name
    }
    needed = ("encoder.lift.weight", "decoder.project.weight")
    missing = [name for name in needed if name not in renamed]
    if missing:
        raise ValueError(
            f"this is no state dict of the published MINO-T: nothing in it is our {', '.join(missing)}; it "
            f"has {', '.join(sorted(state_dict)) or 'nothing'}"
        )
    width, in_channels = renamed["encoder.lift.weight"].shape
    model = MINO(
        in_channels,
        len(renamed["decoder.project.weight"]),
        coord_dim,
        hidden_channels=width,
        radius=radius,
        latent=latent,
        n_layers=_layers(renamed, "blocks"),
        n_heads=n_heads,
        attention="global",
        reduction="mean",
        time=True,
        domain=domain,
        decoder_layers=_layers(renamed, "decoder.blocks"),
    )
    own = {k: v for k, v in model.state_dict().items() if not k.startswith("normalizer.")}
    odd = sorted(own.keys() ^ renamed.keys())
    if odd:
        raise ValueError(f"the tensors do not fit a MINO-T with time: {', '.join(odd)} are on one side only")
    wrong = [f"{k} {tuple(renamed[k].shape)}" for k, v in own.items() if v.shape != renamed[k].shape]
    if wrong:
        raise ValueError(f"tensors that do not fit a MINO-T of width {width}: {', '.join(wrong)}")
    model.to(renamed["encoder.lift.weight"].dtype)
    model.load_state_dict(renamed, strict=False)
    return model.eval()


def _our_name(name: str) -> str:
    stem, _, leaf = name.rpartition(".")
    block = re.fullmatch(r"(encoder\.first_block|encoder\.rest_block\.\d+|decoder\.blocks\.\d+)\.(.+)", stem)
    if block is None:
        return f"{_NAMES.get(stem, stem)}.{leaf}"
    place, part = block.groups()
    if place == "encoder.first_block":
        place = "blocks.0"
    elif place.startswith("encoder."):
        place = f"blocks.{int(place.rpartition('.')[2]) + 1}"
    return f"{place}.{_IN_BLOCK.get(part, part)}.{leaf}"


def _layers(renamed: Mapping[str, Tensor], place: str) -> int:
    return max(1, len({name for name in renamed if re.fullmatch(rf"{place}\.\d+\.query\.weight", name)}))
