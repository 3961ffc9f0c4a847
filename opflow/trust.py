"""Whether a prediction can be trusted: scores of how far a field lies from those a model was trained on."""

from opflow.flows.trust import OODScore

__all__ = ["OODScore"]
