"""dspsx: differentiable stellar population synthesis, as composable Equinox modules in JAX."""

from dspsx import indices, units
from dspsx._model import AbstractModel, Scalar, data, named_parameters, param
from dspsx._operations import batch_axes, combine, partition, replace, stack, summary, take
from dspsx.bulk import predict, predict_and_gradient, predict_jacobian
from dspsx.compressed import BandSSP, BandTable, Certificate
from dspsx.cosmology import Cosmology
from dspsx.dust import (
    Calzetti00,
    CharlotFall00,
    DustLaw,
    DustModel,
    KriekConroy13,
    NoDust,
    Noll09,
    PartialCover,
    PowerLawDust,
    Salim18,
)
from dspsx.filters import FilterSet
from dspsx.galaxy import GalaxySEDModel
from dspsx.igm import IGM, DampingWing, Inoue14, Madau95
from dspsx.io import library, load, save
from dspsx.lines import EmissionLines
from dspsx.mass_loss import ImfMassLoss, MassLoss, TabulatedMassLoss
from dspsx.metallicity import (
    AgeCorrelatedMDF,
    DeltaMDF,
    ExponentialMDF,
    LognormalMDF,
    MassMetallicity,
    MetallicityModel,
    TabulatedMetallicity,
)
from dspsx.nebular import NebularLines, TabulatedLines
from dspsx.sfh import (
    BinnedSFH,
    BurstSFH,
    ConstantSFH,
    ContinuitySFH,
    DelayedTauSFH,
    DiffmahHalo,
    DiffstarSFH,
    DirichletSFH,
    DoublePowerLawSFH,
    ExponentialSFH,
    GaussianSFH,
    LognormalSFH,
    MassAccretionHistory,
    NormalisedSFH,
    StarFormationHistory,
    SumSFH,
    TabulatedSFH,
    WithBurst,
)
from dspsx.spectroscopy import Instrument, air_to_vacuum, vacuum_to_air
from dspsx.ssp import LowRankSSP, SSPGrid, SSPLibrary

__version__ = "0.1.0"

__all__ = [
    "IGM",
    "AbstractModel",
    "AgeCorrelatedMDF",
    "BandSSP",
    "BandTable",
    "BinnedSFH",
    "BurstSFH",
    "Calzetti00",
    "Certificate",
    "CharlotFall00",
    "ConstantSFH",
    "ContinuitySFH",
    "Cosmology",
    "DampingWing",
    "DelayedTauSFH",
    "DeltaMDF",
    "DiffmahHalo",
    "DiffstarSFH",
    "DirichletSFH",
    "DoublePowerLawSFH",
    "DustLaw",
    "DustModel",
    "EmissionLines",
    "ExponentialMDF",
    "ExponentialSFH",
    "FilterSet",
    "GalaxySEDModel",
    "GaussianSFH",
    "ImfMassLoss",
    "Inoue14",
    "Instrument",
    "KriekConroy13",
    "LognormalMDF",
    "LognormalSFH",
    "LowRankSSP",
    "Madau95",
    "MassAccretionHistory",
    "MassLoss",
    "MassMetallicity",
    "MetallicityModel",
    "NebularLines",
    "NoDust",
    "Noll09",
    "NormalisedSFH",
    "PartialCover",
    "PowerLawDust",
    "SSPGrid",
    "SSPLibrary",
    "Salim18",
    "Scalar",
    "StarFormationHistory",
    "SumSFH",
    "TabulatedLines",
    "TabulatedMassLoss",
    "TabulatedMetallicity",
    "TabulatedSFH",
    "WithBurst",
    "air_to_vacuum",
    "batch_axes",
    "combine",
    "data",
    "indices",
    "library",
    "load",
    "named_parameters",
    "param",
    "partition",
    "predict",
    "predict_and_gradient",
    "predict_jacobian",
    "replace",
    "save",
    "stack",
    "summary",
    "take",
    "units",
    "vacuum_to_air",
]
