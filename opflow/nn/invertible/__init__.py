"""Invertible layers: both directions, and exact log-determinants."""

from opflow.nn.invertible.actnorm import ActNorm as ActNorm
from opflow.nn.invertible.bijection import Bijection as Bijection
from opflow.nn.invertible.bijection import Chain as Chain
from opflow.nn.invertible.causal_weight import ORIENTATIONS as ORIENTATIONS
from opflow.nn.invertible.cinc import CInCConv as CInCConv
from opflow.nn.invertible.conditioning import Condition as Condition
from opflow.nn.invertible.coupling import AffineCoupling as AffineCoupling
from opflow.nn.invertible.coupling import QuadCoupling as QuadCoupling
from opflow.nn.invertible.dequantization import UniformDequantization as UniformDequantization
from opflow.nn.invertible.dequantization import VariationalDequantization as VariationalDequantization
from opflow.nn.invertible.finc import FInCConv as FInCConv
from opflow.nn.invertible.inverse_conv import InverseConv as InverseConv
from opflow.nn.invertible.pointwise import PointwiseConv as PointwiseConv
from opflow.nn.invertible.preprocessing import Logit as Logit
from opflow.nn.invertible.preprocessing import Rescale as Rescale
from opflow.nn.invertible.preprocessing import Standardize as Standardize
from opflow.nn.invertible.priors import SplitPrior as SplitPrior
from opflow.nn.invertible.priors import TopPrior as TopPrior
from opflow.nn.invertible.spline import SplineCoupling as SplineCoupling
from opflow.nn.invertible.squeeze import Squeeze as Squeeze
