"""Layers."""

from opflow.nn.channel_mlp import ChannelLinear as ChannelLinear
from opflow.nn.channel_mlp import ChannelMLP as ChannelMLP
from opflow.nn.embed import TimeEmbedding as TimeEmbedding
from opflow.nn.fno_block import FNOBlock as FNOBlock
from opflow.nn.normalize import Normalizer as Normalizer
from opflow.nn.polynomial import PolynomialBlock as PolynomialBlock
from opflow.nn.spectral import SpectralConv as SpectralConv
from opflow.nn.spectral import fourier_resample as fourier_resample
from opflow.nn.unet import UNet as UNet
