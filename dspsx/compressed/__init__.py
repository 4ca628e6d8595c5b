"""Compressed galaxies: the light of the bands alone, or fewer spectra, with a certificate of what that costs."""

from dspsx.compressed.bands import BandSSP, BandTable
from dspsx.compressed.certificate import Certificate
from dspsx.compressed.build import compress
from dspsx.compressed.lowrank import LowRankSSP

__all__ = ["BandSSP", "BandTable", "Certificate", "LowRankSSP", "compress"]
