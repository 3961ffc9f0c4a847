"""Flows: distributions of images and fields that can be evaluated and sampled exactly."""

from opflow.flows.base import Flow as Flow
from opflow.flows.distribution import FlowDistribution as FlowDistribution
from opflow.flows.field import FieldFlow as FieldFlow
from opflow.flows.image import ImageFlow as ImageFlow
from opflow.flows.named import CInCFlow as CInCFlow
from opflow.flows.named import FInCFlow as FInCFlow
from opflow.flows.named import InverseFlow as InverseFlow
from opflow.flows.registry import FLOWS as FLOWS
