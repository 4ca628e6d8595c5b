"""Emission lines of a galaxy."""

import abc

from jaxtyping import Array, Float

from dspsx._model import AbstractModel
from dspsx._numerics import outer
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

    def luminosities_separable(
        self, ssp: SSPLibrary, metallicity: Float[Array, " met"], mass: Float[Array, "screen age"]
    ) -> tuple[Float[Array, " line"], Float[Array, "screen line"]]:
        """As `luminosities`, of weights that are a product of a distribution of metallicity and masses of each age."""
        weights = outer(metallicity, mass).reshape(mass.shape[0], metallicity.size, mass.shape[-1])
        return self.luminosities(ssp, weights)

    def check_use(self, ssp: SSPLibrary) -> None:
        """Hook: raise ValueError if the lines are not for this SSP library, where values can be seen."""
