"""Whether somebody listens to a module."""

from torch import nn


def has_hooks(*modules: nn.Module) -> bool:
    """Whether a module has hooks of its own, which code that passes it by would not call."""
    return any(
        m._forward_hooks or m._forward_pre_hooks or m._backward_hooks or m._backward_pre_hooks
        for m in modules
    )
