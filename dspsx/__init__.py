"""dspsx: differentiable stellar population synthesis, as composable Equinox modules in JAX."""

from dspsx import units
from dspsx._model import AbstractModel, Scalar, data, named_parameters, param
from dspsx._operations import batch_axes, combine, partition, replace, stack, summary, take
from dspsx.bulk import predict, predict_and_gradient, predict_jacobian
from dspsx.compressed import BandSSP, BandTable, Certificate
from dspsx.cosmology import Cosmology
from dspsx.dust import Calzetti00, DustLaw, DustModel, NoDust, Noll09, PartialCover, PowerLawDust, Salim18
from dspsx.filters import FilterSet
from dspsx.galaxy import GalaxySEDModel
from dspsx.igm import IGM
from dspsx.io import load, save
from dspsx.lines import EmissionLines
from dspsx.metallicity import LognormalMDF, MetallicityModel
from dspsx.sfh import (
    DelayedTauSFH,
    DiffmahHalo,
    DiffstarSFH,
    MassAccretionHistory,
    StarFormationHistory,
    TabulatedSFH,
)
from dspsx.ssp import LowRankSSP, SSPGrid, SSPLibrary

__version__ = "0.1.0"

__all__ = [
    "IGM",
    "AbstractModel",
    "BandSSP",
    "BandTable",
    "Calzetti00",
    "Certificate",
    "Cosmology",
    "DelayedTauSFH",
    "DiffmahHalo",
    "DiffstarSFH",
    "DustLaw",
    "DustModel",
    "EmissionLines",
    "FilterSet",
    "GalaxySEDModel",
    "LognormalMDF",
    "LowRankSSP",
    "MassAccretionHistory",
    "MetallicityModel",
    "NoDust",
    "Noll09",
    "PartialCover",
    "PowerLawDust",
    "SSPGrid",
    "SSPLibrary",
    "Salim18",
    "Scalar",
    "StarFormationHistory",
    "TabulatedSFH",
    "batch_axes",
    "combine",
    "data",
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
]
