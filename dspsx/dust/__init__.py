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
from dspsx.dust.extinction import CCM89, Fitzpatrick99, Gordon03LMC, Gordon03SMC, Gordon23, ODonnell94

__all__ = [
    "CCM89",
    "Calzetti00",
    "CharlotFall00",
    "DustLaw",
    "DustModel",
    "Fitzpatrick99",
    "Gordon03LMC",
    "Gordon03SMC",
    "Gordon23",
    "KriekConroy13",
    "NoDust",
    "Noll09",
    "ODonnell94",
    "PartialCover",
    "PowerLawDust",
    "Salim18",
]
