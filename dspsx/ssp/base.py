"""SSPLibrary: what a galaxy asks of the light of simple stellar populations."""

import abc
from typing import Any

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float

from dspsx import units
from dspsx._model import AbstractModel, Number
from dspsx._numerics import gauss_legendre, matmul, outer
from dspsx.filters import FilterSet


class SSPLibrary(AbstractModel):
    """Light of simple stellar populations on axes of metallicity and age, sampled at wavelengths of its own choice.

    A galaxy asks for nothing else, so that a full grid of spectra (`SSPGrid`), its low-rank form (`LowRankSSP`) and the
    light of a few bands alone (`BandSSP`) are exchangeable. What lies between the stars and the telescope is evaluated at
    `sampling(redshift)`, whatever that is.
    """

    lg_age: eqx.AbstractVar[Float[Array, " age"]]
    lgmet: eqx.AbstractVar[Float[Array, " met"]]

    @abc.abstractmethod
    def sampling(self, redshift: Number) -> Float[Array, " wave"]:
        """Rest-frame wavelengths in Angstrom at which `integrate` gives the light of a galaxy at a redshift."""

    @abc.abstractmethod
    def integrate(self, weights: Float[Array, "*batch met age"], redshift: Number = 0.0) -> Float[Array, "*batch wave"]:
        """Light of a population with `weights` in Msun formed, at `sampling(redshift)`."""

    def integrate_separable(
        self, metallicity: Float[Array, " met"], mass: Float[Array, "*batch age"], redshift: Number = 0.0
    ) -> Float[Array, "*batch wave"]:
        """As `integrate`, of weights that are a product of a distribution of metallicity and masses of each age."""
        weights = outer(metallicity, mass).reshape(*mass.shape[:-1], metallicity.size, mass.shape[-1])
        return self.integrate(weights, redshift)

    def starlight(
        self,
        metallicity: Float[Array, "met #age"],
        mass: Float[Array, "screen age"],
        redshift: Number = 0.0,
        compact: bool = False,
    ) -> Float[Array, "screen wave"]:
        """Hook: light of stars with a distribution of metallicity, and masses of each age in Msun formed. `compact` is that of the
        `MetallicityModel`: where the distribution is zero, its derivatives are."""
        if metallicity.shape[1] == 1:
            return self.integrate_separable(metallicity[:, 0], mass, redshift)
        return self.integrate(metallicity[None] * mass[:, None, :], redshift)

    @abc.abstractmethod
    def band_average(self, filters: FilterSet, light: Float[Array, " wave"], redshift: Number) -> Float[Array, " band"]:
        """Mean luminosity density in Lsun/Hz in each band of light at `sampling(redshift)`."""

    @abc.abstractmethod
    def spectrum_wave(self) -> Float[Array, " wave"]:
        """Rest-frame wavelengths in Angstrom of a spectrum, those of `sampling(0)`; raises TypeError if the library holds none."""

    def bolometric(self) -> "tuple[SSPLibrary, Float[Array, ' wave']]":
        """A library of the same stars, and widths in Hz for its wavelengths: light times widths, summed, is a luminosity in
        Lsun. Raises TypeError if there is none."""
        wave = self.spectrum_wave()
        return self, widths_in_hertz(wave)

    def has_gas(self, lines: AbstractModel) -> bool:
        """Hook: whether the continuum of this gas is known at `sampling(redshift)`. It is where that is the axis of a spectrum."""
        return True

    def gas_ends(self) -> tuple[Any, Any] | None:
        """Hook: rest-frame wavelengths in Angstrom outside of which none of that continuum is in the light, although bands may see
        it there; None if no band does. They are the ends of the spectrum."""
        wave = self.spectrum_wave()
        return wave[0], wave[-1]

    def gas(self, lines: Any, parts: Float[Array, "*batch part"], redshift: Number) -> Float[Array, "*batch wave"]:
        """Hook: light, at `sampling(redshift)`, of gas with so much of each of its `continuum_spectra`."""
        return matmul(parts, lines.continuum_spectra(self.sampling(redshift)).T)

    def check_use(self, filters: FilterSet, redshift: Number) -> None:
        """Hook: warn, or raise ValueError, of a galaxy with these bands or at this redshift, where values can be seen."""

    def check_energy(self) -> None:
        """Hook: warn of a galaxy with dust emission, where values can be seen."""

    def check_dust(self, *dust: AbstractModel) -> None:
        """Hook: raise ValueError of a galaxy with dust, its own or in the foreground, that the library does not know of."""

    def check_igm(self, igm: AbstractModel | None) -> None:
        """Hook: raise ValueError of a galaxy behind an intergalactic medium that the library does not know of."""


def widths_in_hertz(wave: Float[Array, " wave"]) -> Float[Array, " wave"]:
    """Integrals over frequency of the hat functions of a wavelength axis in Angstrom."""
    step, falling, rising = jnp.diff(wave), 0.0, 0.0
    for node, weight in zip(*gauss_legendre(3), strict=True):
        at = wave[:-1] + step * float(node)
        value = step * float(weight) * (units.C_ANGSTROM / at) / at
        falling, rising = falling + value * (1.0 - float(node)), rising + value * float(node)
    return jnp.pad(falling, (0, 1)) + jnp.pad(rising, (1, 0))
