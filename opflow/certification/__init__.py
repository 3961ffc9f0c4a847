"""Whether a model keeps what it promises: symmetries, grids, meshes, derivatives, as a table of errors."""

from opflow.certification.certificate import Certificate, Row
from opflow.certification.certify import certify

__all__ = ["Certificate", "Row", "certify"]
