"""Compressed galaxies: the light of the bands alone, with a certificate of what that costs."""

from dspsx.compressed.bands import BandSSP, BandTable
from dspsx.compressed.build import compress
from dspsx.compressed.certificate import Certificate

__all__ = ["BandSSP", "BandTable", "Certificate", "compress"]
