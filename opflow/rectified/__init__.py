"""Rectified flows: laws of fields, and their labels, by the velocity of an ordinary differential equation."""

from opflow.rectified.base import RectifiedFlow
from opflow.rectified.coarse_to_fine import coarse_to_fine
from opflow.rectified.codecs import AnchorCodec, Codec, Grey, OneHot, Palette, SignedDistance
from opflow.rectified.couplings import ConditionalOT, Coupling, Independent, PermutationOT
from opflow.rectified.fixed_steps import FixedSteps
from opflow.rectified.functional import FunctionalFlow
from opflow.rectified.gaussian_process import GaussianProcess
from opflow.rectified.likelihood import LogProb, log_prob
from opflow.rectified.noise import NoiseSource, White
from opflow.rectified.paths import Path, Reversed, Straight, VariancePreserving
from opflow.rectified.sampling import ADAPTIVE, FIXED, Flowed, integrate
from opflow.rectified.semflow import Segmentation, SemFlow
from opflow.rectified.straighten import straightness
from opflow.rectified.symmflow import SymmFlow
from opflow.rectified.table import RECTIFIED
from opflow.rectified.velocity import VelocityNetwork

__all__ = [
    "ADAPTIVE",
    "FIXED",
    "RECTIFIED",
    "AnchorCodec",
    "Codec",
    "ConditionalOT",
    "Coupling",
    "FixedSteps",
    "Flowed",
    "FunctionalFlow",
    "GaussianProcess",
    "Grey",
    "Independent",
    "LogProb",
    "NoiseSource",
    "OneHot",
    "Palette",
    "Path",
    "PermutationOT",
    "RectifiedFlow",
    "Reversed",
    "Segmentation",
    "SemFlow",
    "SignedDistance",
    "Straight",
    "SymmFlow",
    "VariancePreserving",
    "VelocityNetwork",
    "White",
    "coarse_to_fine",
    "integrate",
    "log_prob",
    "straightness",
]
