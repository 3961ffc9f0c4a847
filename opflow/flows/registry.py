"""The flows by the names that files call them."""

from opflow.flows.base import Flow
from opflow.flows.field import FieldFlow
from opflow.flows.image import ImageFlow

FLOWS: dict[str, type[Flow]] = {"FieldFlow": FieldFlow, "ImageFlow": ImageFlow}
