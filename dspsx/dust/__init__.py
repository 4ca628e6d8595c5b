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
from dspsx.dust.draine import DraineLi07, DustTable
from dspsx.dust.emission import Casey12, DustEmission
from dspsx.dust.extinction import CCM89, Fitzpatrick99, Gordon03LMC, Gordon03SMC, Gordon23, ODonnell94

__all__ = [
    "CCM89",
    "Calzetti00",
    "Casey12",
    "CharlotFall00",
    "DraineLi07",
    "DustEmission",
    "DustLaw",
    "DustModel",
    "DustTable",
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
