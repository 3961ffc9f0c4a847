"""Layers."""

from opflow.nn.channel_mlp import ChannelLinear as ChannelLinear
from opflow.nn.channel_mlp import ChannelMLP as ChannelMLP
from opflow.nn.differential import DifferentialConv as DifferentialConv
from opflow.nn.embed import TimeEmbedding as TimeEmbedding
from opflow.nn.filter_bases import filter_basis as filter_basis
from opflow.nn.fno_block import FNOBlock as FNOBlock
from opflow.nn.local_integral import IntegralConv as IntegralConv
from opflow.nn.local_integral import IntegralConvTranspose as IntegralConvTranspose
from opflow.nn.normalize import Normalizer as Normalizer
from opflow.nn.point_integral import PointIntegralConv as PointIntegralConv
from opflow.nn.point_integral import PointSupport as PointSupport
from opflow.nn.polynomial import PolynomialBlock as PolynomialBlock
from opflow.nn.spectral import SpectralConv as SpectralConv
from opflow.nn.spectral import fourier_resample as fourier_resample
from opflow.nn.sphere import SphericalConv as SphericalConv
from opflow.nn.sphere import SphericalIntegral as SphericalIntegral
from opflow.nn.unet import UNet as UNet
