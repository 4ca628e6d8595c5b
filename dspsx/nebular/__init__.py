"""Light of gas."""

from dspsx.nebular.base import EmissionLines
from dspsx.nebular.cloudy import NebularLines
from dspsx.nebular.photons import LYMAN_LIMIT, PHOTONS, ionising_photon_rates
from dspsx.nebular.tabulated import TabulatedLines

__all__ = ["LYMAN_LIMIT", "PHOTONS", "EmissionLines", "NebularLines", "TabulatedLines", "ionising_photon_rates"]
