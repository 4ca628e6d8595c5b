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
from dspsx.dust.composite import CharlotFall00, KriekConroy13

__all__ = [
    "Calzetti00",
    "CharlotFall00",
    "DustLaw",
    "DustModel",
    "KriekConroy13",
    "NoDust",
    "Noll09",
    "PartialCover",
    "PowerLawDust",
    "Salim18",
]
