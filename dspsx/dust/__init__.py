"""Dust: attenuation laws and the ways to combine them."""

from dspsx.dust.attenuation import (
    Calzetti00,
    DustLaw,
    DustModel,
    NoDust,
    Noll09,
    PartialCover,
    PowerLawDust,
    Salim18,
)

__all__ = [
    "Calzetti00",
    "DustLaw",
    "DustModel",
    "NoDust",
    "Noll09",
    "PartialCover",
    "PowerLawDust",
    "Salim18",
]
