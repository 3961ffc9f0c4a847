"""The model of a run, with the sizes that follow from its data."""

from typing import Any

from opflow.runs.config import RunConfig


def build_for(config: RunConfig, data: Any) -> Any:
    """Build the model of a configuration for its training data.

    Operators take their channels from the data, flows their shape, flows of images the number of values,
    rectified flows their channels and the number of classes. The condition of a flow is the input if its
    option `condition` is "inputs".

    Raises:
        ValueError: no model has that name, or it cannot be built with these options.
    """
    from opflow.flows import FLOWS
    from opflow.operators import build
    from opflow.rectified import RECTIFIED

    options = dict(config.options)
    try:
        if config.model in RECTIFIED:
            return RECTIFIED[config.model](**_rectified_options(options, data))
        if config.model not in FLOWS:
            outputs = data.out_channels // getattr(data, "horizon", 1)
            return build(config.model, in_channels=data.in_channels, out_channels=outputs, **options)
        x, y = data[0]
        if options.get("condition") == "inputs":
            options["condition"] = tuple(x.shape)
        values = {"bins": data.bins} if hasattr(data, "bins") else {}
        flow: Any = FLOWS[config.model]
        return flow(**({"shape": tuple(y.shape)} | values | options))
    except (TypeError, AttributeError) as error:
        raise ValueError(
            f"{config.model} cannot be built with options {options} for {config.data}: {error}"
        ) from error


def _rectified_options(options: dict[str, Any], data: Any) -> dict[str, Any]:
    from opflow.runs.labels import Labelled
    from pde_data import MeshDataset

    if isinstance(data, Labelled):
        codec = {"n_classes": data.n_classes} | options.get("codec", {"class": "OneHot"})
        return options | {"channels": data.channels, "codec": codec}
    condition = options.pop("condition", None)
    if condition not in (None, "inputs"):
        raise ValueError(f'condition={condition!r} should be "inputs", or left out')
    if isinstance(data, MeshDataset):
        inputs, channels = data.in_channels, data.out_channels
    else:
        inputs, channels = (len(member) for member in data[0])
    return {"channels": channels, "condition_channels": inputs if condition else 0} | options
