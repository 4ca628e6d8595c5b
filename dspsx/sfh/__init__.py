"""Star formation histories."""

from dspsx.sfh.base import StarFormationHistory
from dspsx.sfh.composite import NormalisedSFH, SumSFH, WithBurst
from dspsx.sfh.diffmah import DiffmahHalo, MassAccretionHistory
from dspsx.sfh.diffstar import DiffstarSFH
from dspsx.sfh.nonparametric import BinnedSFH, ContinuitySFH, DirichletSFH
from dspsx.sfh.parametric import (
    BurstSFH,
    ConstantSFH,
    DelayedTauSFH,
    DoublePowerLawSFH,
    ExponentialSFH,
    GaussianSFH,
    LognormalSFH,
)
from dspsx.sfh.tabulated import TabulatedSFH

__all__ = [
    "BinnedSFH",
    "BurstSFH",
    "ConstantSFH",
    "ContinuitySFH",
    "DelayedTauSFH",
    "DiffmahHalo",
    "DiffstarSFH",
    "DirichletSFH",
    "DoublePowerLawSFH",
    "ExponentialSFH",
    "GaussianSFH",
    "LognormalSFH",
    "MassAccretionHistory",
    "NormalisedSFH",
    "StarFormationHistory",
    "SumSFH",
    "TabulatedSFH",
    "WithBurst",
]
