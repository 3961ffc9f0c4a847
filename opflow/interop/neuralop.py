"""Weights to and from neuraloperator's `FNO` and `TFNO`."""

import inspect
import math
import re
import warnings
from collections.abc import Mapping
from typing import Any, cast

import torch
from torch import Tensor, nn

from opflow.nn.activations import ACTIVATIONS
from opflow.nn.channel_mlp import ChannelLinear
from opflow.nn.fno_block import FNOBlock
from opflow.nn.spectral import SpectralConv
from opflow.operators.fno import FNO

# How many modes neuraloperator's weights hold is in their shapes, under another convention than ours: its
# `max_n_modes` counts the half spectrum on the last axis.
_WITHOUT_EFFECT = ("fno_block_precision", "implementation", "decomposition_kwargs", "conv_module")
_SHAPES_DECIDE = ("max_n_modes", "factorization", "rank", "fixed_rank_modes")


def from_neuralop(source: nn.Module | Mapping[str, Any], **arguments: Any) -> FNO:
    """Build our FNO from an FNO or TFNO of neuraloperator, or from its state dict.

    Both are the same function on even grids, for real data and without `resolution_scaling_factor`.
    Elsewhere neuraloperator's differs from itself on other grids (see `opflow.nn.SpectralConv`) and ours does
    not.

    Sizes, factorisation, and whatever else leaves a trace in names or shapes are read from the tensors. The
    rest is taken from the model, or from the metadata that neuraloperator puts into its state dicts, or from
    `arguments`, or else is neuraloperator's default.

    Args:
        source: the model, or a state dict (`torch.load(path, weights_only=False)` if you trust the file).
        arguments: constructor arguments of neuraloperator's model that a state dict without metadata does
            not determine: `positional_embedding`, `norm="instance_norm"`, `non_linearity`, `domain_padding`,
            `stabilizer`, `preactivation`, a skip that is "identity" or None, and `n_modes` where
            `max_n_modes` was given.

    Raises:
        ValueError: a tensor is unknown, missing or of the wrong shape, or an argument has no counterpart.

    Example:
        >>> import torch, warnings
        >>> with warnings.catch_warnings():  # neuraloperator adds global filters when it is imported
        ...     from neuralop.models import FNO as TheirFNO
        >>> theirs = TheirFNO(n_modes=(8, 8), in_channels=1, out_channels=1, hidden_channels=6)
        >>> ours = from_neuralop(theirs)  # ours.save_pretrained("folder") keeps it without pickle
        >>> x = torch.randn(2, 1, 16, 16)
        >>> torch.allclose(ours(x), theirs(x), atol=1e-5)
        True
    """
    if isinstance(source, nn.Module):
        arguments = {**_arguments_of(source), **arguments}
        state = dict(source.state_dict())
        state.pop("_metadata", None)
    else:
        state = dict(source)
        arguments = {**_from_metadata(state.pop("_metadata", {})), **arguments}
    if arguments.get("complex_data") or "lifting.fr.fcs.0.weight" in state:
        raise ValueError(
            "complex_data=True cannot be converted: neuraloperator's layer picks other modes than it says, "
            "so no weights make the two the same function"
        )
    read = _read_shapes(state, arguments)
    model = FNO(**{**read, **arguments, **{k: read[k] for k in _SHAPES_DECIDE if k in read}})
    model.to(state["projection.fcs.0.weight"].dtype)
    _copy_weights(model, state)
    return model.train(source.training if isinstance(source, nn.Module) else False)


def to_neuralop(model: FNO) -> nn.Module:
    """Return neuraloperator's `FNO` with the weights of ours, the same function on even grids.

    A fitted normaliser is folded into the first and the last linear map. The result is float32:
    neuraloperator's layers are.

    Raises:
        ValueError: the model has `complex_data` or polynomial layers, or predicts increments, for which
            neuraloperator has no counterpart.

    Example:
        >>> model = FNO(n_modes=(4, 4), in_channels=1, out_channels=2, hidden_channels=6)
        >>> theirs = to_neuralop(model)
        >>> x = torch.randn(2, 1, 8, 8)
        >>> torch.allclose(theirs(x), model(x), atol=1e-5)
        True
    """
    if model.config["complex_data"]:
        raise ValueError("complex_data=True cannot be converted: neuraloperator's is another function")
    if model.config["project"]:
        raise ValueError("polynomial layers cannot be converted: neuraloperator has none")
    if model.normalizer.increment:
        raise ValueError(
            "this FNO predicts increments (output = input + network), which neuraloperator's FNO cannot; "
            "train with increments off, or export with opflow.export"
        )
    arguments = dict(model.config, non_linearity=ACTIVATIONS[model.config["non_linearity"]])
    del arguments["project"]
    if arguments["max_n_modes"] is not None:
        arguments["max_n_modes"] = [count for _, count in _convs(model)[0].held]
    if not isinstance(arguments["domain_padding"], int | float | None):
        arguments["domain_padding"] = list(arguments["domain_padding"])
    theirs = _their_fno()(**arguments)
    state = dict(theirs.state_dict())
    del state["_metadata"]
    weights = _weights_of(model)
    for name, target in _names(model).items():
        state[target] = weights[name].detach().reshape(state[target].shape).to(state[target].dtype)
    theirs.load_state_dict(state)
    return theirs.train(model.training)


def _arguments_of(source: nn.Module) -> dict[str, Any]:
    """Return the constructor arguments of a model of neuraloperator, with the modes it uses now."""
    if type(source).__name__ not in ("FNO", "TFNO") or not hasattr(source, "fno_blocks"):
        raise ValueError(
            f"only neuraloperator's FNO and TFNO can be converted, got a {type(source).__name__}"
        )
    arguments = _from_metadata(source._init_kwargs)  # pyright: ignore[reportArgumentType]
    in_use = source.fno_blocks.convs[0].n_modes  # pyright: ignore
    if [*arguments["n_modes"][:-1], arguments["n_modes"][-1] // 2 + 1] != list(in_use):
        arguments["n_modes"] = _total_modes(in_use)  # set after construction
    return arguments


def _from_metadata(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Return our constructor arguments from those that neuraloperator records."""
    given = dict(metadata)
    if metadata.get("args"):
        given = dict(zip(inspect.signature(_their_fno()).parameters, metadata["args"])) | given
    if given.get("fno_block_precision", "full") != "full":
        raise ValueError(
            f"fno_block_precision={given['fno_block_precision']!r} has no counterpart; use autocast instead"
        )
    module = getattr(given.get("conv_module"), "__name__", "SpectralConv")
    if module != "SpectralConv":
        raise ValueError(f"conv_module={module} has no counterpart; only SpectralConv does")
    boundaries = getattr(given.get("positional_embedding"), "grid_boundaries", None)
    if boundaries is not None:
        if any(tuple(map(float, ends)) != (0.0, 1.0) for ends in boundaries):
            raise ValueError(
                f"the positional embedding has grid_boundaries={boundaries}; only [0, 1] on each axis, "
                "neuraloperator's default, has a counterpart"
            )
        given["positional_embedding"] = "grid"
    known = {*inspect.signature(FNO).parameters} - {*_SHAPES_DECIDE, *_WITHOUT_EFFECT}
    return {name: value for name, value in given.items() if name in known}


def _their_fno() -> type:
    with warnings.catch_warnings():  # neuraloperator adds global filters and warns when imported
        warnings.simplefilter("ignore")
        from neuralop.models import FNO as TheirFNO
    return TheirFNO


def _read_shapes(state: Mapping[str, Any], arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Return the constructor arguments that names and shapes of neuraloperator's tensors determine."""
    needed = ("fno_blocks.convs.0.bias", "lifting.fcs.0.weight", "projection.fcs.1.weight")
    missing = [name for name in needed if name not in state]
    if missing:
        raise ValueError(
            f"this is no state dict of neuraloperator's FNO: it has no {', '.join(missing)}, but "
            f"{', '.join(sorted(state)) or 'nothing'}"
        )
    bias, lifting, projection = (state[name] for name in needed)
    width, n_dim = bias.shape[0], bias.ndim - 1
    read: dict[str, Any] = {
        "hidden_channels": width,
        "out_channels": projection.shape[0],
        "in_channels": lifting.shape[1] - (n_dim if arguments.get("positional_embedding", "grid") else 0),
        "n_layers": len({name.split(".")[2] for name in state if name.startswith("fno_blocks.convs.")}),
        "lifting_channel_ratio": _ratio(len(lifting), width) if "lifting.fcs.1.weight" in state else 0,
        "projection_channel_ratio": _ratio(projection.shape[1], width),
        "use_channel_mlp": "fno_blocks.channel_mlp.0.fcs.0.weight" in state,
        **_read_spectral_weight(state, n_dim, arguments.get("n_modes")),
    }
    if read["use_channel_mlp"]:
        hidden = len(state["fno_blocks.channel_mlp.0.fcs.0.weight"])
        read["channel_mlp_expansion"] = _ratio(hidden, width)
        read["channel_mlp_skip"] = _read_skip("channel_mlp_skip", state, arguments)
    read["fno_skip"] = _read_skip("fno_skip", state, arguments)
    if "fno_blocks.norm.0.norm.weight" in state:
        read["norm"] = "batch_norm"
    elif "fno_blocks.norm.0.weight" in state:
        read["norm"] = "group_norm"
    return read


def _read_spectral_weight(state: Mapping[str, Tensor], n_dim: int, n_modes) -> dict[str, Any]:
    prefix = "fno_blocks.convs.0.weight."
    weight = {name.removeprefix(prefix): t for name, t in state.items() if name.startswith(prefix)}
    factors = [weight[f"factors.factor_{i}"] for i in range(len(weight)) if f"factors.factor_{i}" in weight]
    read: dict[str, Any] = {}
    if "tensor" in weight:
        shape = weight["tensor"].shape
    elif "core" in weight:
        shape = [len(factor) for factor in factors]
        read |= {"factorization": "tucker", "rank": list(weight["core"].shape)}
    elif "weights" in weight:
        shape = [len(factor) for factor in factors]
        read |= {"factorization": "cp", "rank": len(weight["weights"])}
    elif factors:
        shape = [factor.shape[1] for factor in factors]
        read |= {"factorization": "tt", "rank": [*(len(factor) for factor in factors), 1]}
    else:
        raise ValueError(
            f"no spectral weight: expected {prefix}tensor or factors, there are {sorted(weight)}"
        )
    read["separable"] = len(shape) == n_dim + 1
    held = shape[-n_dim:]
    read["n_modes"] = _total_modes(held)
    if n_modes is not None and [*n_modes[:-1], n_modes[-1] // 2 + 1] != list(held):
        read["max_n_modes"] = _total_modes(held)
    return read


def _read_skip(argument: str, state: Mapping[str, Any], arguments: Mapping[str, Any]) -> str | None:
    name = f"fno_blocks.{argument}s.0"
    if f"{name}.conv.weight" in state:
        return "linear"
    if f"{name}.weight" in state:
        return "soft-gating"
    if argument not in arguments:
        raise ValueError(f"the state dict has no {name}; say {argument}='identity' or {argument}=None")
    return arguments[argument]


def _total_modes(held) -> list[int]:
    """Return modes counted over both signs, from the sizes of neuraloperator's weights."""
    return [*held[:-1], max(1, 2 * (held[-1] - 1))]


def _ratio(hidden: int, width: int) -> float:
    """Return a ratio with `int(ratio * width) == hidden`, an integer where there is one."""
    if hidden % width == 0:
        return hidden // width
    ratio = hidden / width
    return ratio if int(ratio * width) == hidden else math.nextafter(ratio, math.inf)


def _names(model: FNO) -> dict[str, str]:
    """Return neuraloperator's name for each of our tensors."""
    return {name: _their_name(name, model) for name in _weights_of(model)}


def _their_name(name: str, model: FNO) -> str:
    for ours, theirs in (("first", "fcs.0"), ("second", "fcs.1")):
        name = name.replace(f".{ours}.", f".{theirs}.")
    in_block = re.fullmatch(r"blocks\.(\d+)\.(\w+)\.(.+)", name)
    if in_block is None:
        return name.replace("lifting.weight", "lifting.fcs.0.weight").replace(
            "lifting.bias", "lifting.fcs.0.bias"
        )
    layer, part, rest = in_block.groups()
    if part == "conv":
        rest = {"weight": "weight.tensor"}.get(rest, re.sub("^factors", "weight", rest))
        return f"fno_blocks.convs.{layer}.{rest}"
    if part == "mlp":
        return f"fno_blocks.channel_mlp.{layer}.{rest}"
    if part == "norms":
        which, rest = rest.split(".")
        inner = "norm." if model.config["norm"] == "batch_norm" else ""
        return f"fno_blocks.norm.{2 * int(layer) + int(which)}.{inner}{rest}"
    skips = {"skip": "fno_skips", "mlp_skip": "channel_mlp_skips"}[part]
    linear = isinstance(getattr(model.blocks[int(layer)], part), ChannelLinear)
    return f"fno_blocks.{skips}.{layer}.{'conv.' if linear else ''}{rest}"


def _weights_of(model: FNO) -> dict[str, Tensor]:
    """Return the tensors of our model: spectral weights dense and complex, the normaliser folded in."""
    state = {name: t.detach() for name, t in model.state_dict().items() if not name.startswith("normalizer.")}
    for layer, conv in enumerate(_convs(model)):
        if conv.factors is None:
            state[f"blocks.{layer}.conv.weight"] = conv.dense_weight().detach()
    normalizer = model.normalizer
    first = "lifting" if isinstance(model.lifting, ChannelLinear) else "lifting.first"
    scale = torch.ones(state[f"{first}.weight"].shape[1]).to(normalizer.input_std)
    shift = torch.zeros_like(scale)
    scale[: model.in_channels] /= normalizer.input_std
    shift[: model.in_channels] = normalizer.input_mean / normalizer.input_std
    state[f"{first}.bias"] = state[f"{first}.bias"] - state[f"{first}.weight"] @ shift
    state[f"{first}.weight"] = state[f"{first}.weight"] * scale
    last = "projection.second"
    state[f"{last}.weight"] = state[f"{last}.weight"] * normalizer.output_std[:, None]
    state[f"{last}.bias"] = state[f"{last}.bias"] * normalizer.output_std + normalizer.output_mean
    return state


def _copy_weights(model: FNO, state: Mapping[str, Tensor]) -> None:
    names = _names(model)
    unknown, missing = sorted(set(state) - set(names.values())), sorted(set(names.values()) - set(state))
    if unknown or missing:
        raise ValueError(
            f"the tensors do not fit an FNO with {model.config}: unknown are {', '.join(unknown) or 'none'}; "
            f"missing are {', '.join(missing) or 'none'}"
        )
    own, convs = model.state_dict(), _convs(model)
    for name, theirs in names.items():
        spectral = re.fullmatch(r"blocks\.(\d+)\.conv\.weight", name)
        if spectral:
            own[name] = convs[int(spectral[1])].dense_weight()
        if own[name].numel() != state[theirs].numel():
            raise ValueError(
                f"{theirs} has shape {tuple(state[theirs].shape)}, which does not fit an FNO with "
                f"{model.config}"
            )
        weight = state[theirs].detach().reshape(own[name].shape)
        if spectral:
            convs[int(spectral[1])].load_dense_weight(weight)
        else:
            own[name].copy_(weight)


def _convs(model: FNO) -> list[SpectralConv]:
    return [cast(FNOBlock, block).conv for block in model.blocks]
