"""Emission lines of a galaxy."""

import abc

from jaxtyping import Array, Float

from dspsx._model import AbstractModel
from dspsx.ssp import SSPLibrary


class EmissionLines(AbstractModel):
    """Lines that the gas around the stars emits. Write one method, `luminosities`.

    In a band a line is a delta function at its own wavelength: the transmission there counts, at every redshift, and
    nothing is smeared on the wavelengths of the SSP grid.
    """

    @abc.abstractmethod
    def luminosities(
        self, ssp: SSPLibrary, weights: Float[Array, "screen met age"]
    ) -> tuple[Float[Array, " line"], Float[Array, "screen line"]]:
        """Rest-frame wavelengths in Angstrom (vacuum), and luminosities in Lsun before dust, of the gas around the stars behind
        each screen of dust, whose `weights` are in Msun formed."""
