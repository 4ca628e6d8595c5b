"""Emission lines of a galaxy, and what else its gas does to the light."""

import abc

from jaxtyping import Array, Float

from dspsx._model import AbstractModel
from dspsx._numerics import outer
from dspsx.ssp import SSPLibrary


class EmissionLines(AbstractModel):
    """Lines that the gas around the stars emits. Write one method, `luminosities`.

    In a band a line is a delta function at its own wavelength: the transmission there counts, at every redshift, and
    nothing is smeared on the wavelengths of the SSP grid. Gas that has a continuum, too, or takes light from the stars, may
    also write `continuum` and `transmission`.
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
        return self.luminosities(ssp, _joint(metallicity, mass))

    @property
    def has_continuum(self) -> bool:
        """Hook: whether there is a continuum; it is where `continuum` has been written."""
        return type(self).continuum is not EmissionLines.continuum

    def continuum(
        self, ssp: SSPLibrary, weights: Float[Array, "screen met age"], wave: Float[Array, " wave"]
    ) -> Float[Array, "screen wave"] | None:
        """Hook: luminosity in Lsun/Hz, before dust, of the gas's continuum at rest-frame wavelengths in Angstrom; arguments as
        of `luminosities`. None if there is none."""
        return None

    def continuum_separable(
        self,
        ssp: SSPLibrary,
        metallicity: Float[Array, " met"],
        mass: Float[Array, "screen age"],
        wave: Float[Array, " wave"],
    ) -> Float[Array, "screen wave"] | None:
        """As `continuum`, of weights that are a product of a distribution of metallicity and masses of each age."""
        return self.continuum(ssp, _joint(metallicity, mass), wave) if self.has_continuum else None

    def continuum_spectra(self, wave: Float[Array, " wave"]) -> Float[Array, "wave part"] | None:
        """Hook: the spectra at rest-frame wavelengths in Angstrom of which every continuum is a sum, if there are few of them, the
        same for all objects of the class whatever their parameters; else None. A compressed galaxy knows their light in its
        bands, and does not ask again."""
        return None

    def continuum_parts(
        self, ssp: SSPLibrary, weights: Float[Array, "screen met age"]
    ) -> Float[Array, "screen part"] | None:
        """Hook: how much of each of the `continuum_spectra` there is; arguments as of `luminosities`."""
        return None

    def continuum_parts_separable(
        self, ssp: SSPLibrary, metallicity: Float[Array, " met"], mass: Float[Array, "screen age"]
    ) -> Float[Array, "screen part"] | None:
        """As `continuum_parts`, of weights that are a product of a distribution of metallicity and masses of each age."""
        return self.continuum_parts(ssp, _joint(metallicity, mass))

    def transmission(self, wave: Float[Array, " wave"]) -> Float[Array, " wave"] | None:
        """Hook: fraction of the stars' light at rest-frame wavelengths in Angstrom that the gas lets through. None for all."""
        return None

    def check_use(self, ssp: SSPLibrary) -> None:
        """Hook: raise ValueError if the lines are not for this SSP library, where values can be seen."""


def _joint(metallicity: Float[Array, " met"], mass: Float[Array, "screen age"]) -> Float[Array, "screen met age"]:
    return outer(metallicity, mass).reshape(mass.shape[0], metallicity.size, mass.shape[-1])
