"""Star formation histories."""

from dspsx.sfh.base import StarFormationHistory
from dspsx.sfh.diffmah import DiffmahHalo, MassAccretionHistory
from dspsx.sfh.diffstar import DiffstarSFH
from dspsx.sfh.parametric import DelayedTauSFH
from dspsx.sfh.tabulated import TabulatedSFH

__all__ = [
    "DelayedTauSFH",
    "DiffmahHalo",
    "DiffstarSFH",
    "MassAccretionHistory",
    "StarFormationHistory",
    "TabulatedSFH",
]
