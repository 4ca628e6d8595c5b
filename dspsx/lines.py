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
        self, ssp: SSPLibrary, weights: Float[Array, "met age"]
    ) -> tuple[Float[Array, " line"], Float[Array, "age line"]]:
        """Rest-frame wavelengths in Angstrom (vacuum), and luminosities in Lsun of the gas around stars of each age,
        before dust, for `weights` in Msun formed."""
