"""Light: what is observed of a galaxy, of its stars, its gas and its dust together."""

import functools
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from dspsx import units
from dspsx._model import Number, Scalar, require_single
from dspsx._numerics import gauss_legendre, matmul, safe_log10
from dspsx.ssp import SSPLibrary

#: Angstrom. Where what dust absorbs of the gas's continuum is summed up, with widths in ln(wavelength): pieces between the
#: edges of hydrogen's continuum, each by Gauss-Legendre quadrature.
_EDGES, _ORDER = (911.76, 1216.0, 2400.0, 3646.0, 8204.0, 30000.0), (4, 4, 4, 5, 5)


@functools.cache
def _continuum_nodes() -> tuple[np.ndarray, np.ndarray]:
    waves, widths = [], []
    for lo, hi, order in zip(_EDGES[:-1], _EDGES[1:], _ORDER, strict=True):
        x, w = gauss_legendre(order)
        waves.append(lo * (hi / lo) ** x)
        widths.append(w * np.log(hi / lo))
    return np.concatenate(waves), np.concatenate(widths)


class Light:
    """Observables of one galaxy that share what they have in common: `light = galaxy.light()`, then `light.rest_sed()` and
    `light.magnitudes()` are one contraction with the SSP grid, not two.

    Weights, starlight and lines are computed once, where they are first asked for. (A compiler merges what a program says
    twice, but not in its loops, nor in the derivatives that are made of it.) The methods are those of `GalaxySEDModel` of the
    same names. An object belongs to one trace: make it within the function that is compiled, mapped or differentiated, and do
    not keep it.
    """

    def __init__(self, galaxy: Any):
        require_single(galaxy)
        self.galaxy = galaxy

    def rest_sed(self) -> Float[Array, " wave"]:
        """Luminosity in Lsun/Hz of all but lines, after dust, at the rest-frame wavelengths of the SSP grid."""
        ssp = self.galaxy.ssp
        wave = ssp.spectrum_wave()
        # a library may have a spectrum and sample another axis at the galaxy's redshift
        same = wave is ssp.sampling(self.galaxy.redshift)
        stars = self.starlight if same else (self._behind(ssp, 0.0) * self._dust(ssp.sampling(0.0))).sum(0)
        glow, _ = self._gas(wave)
        emission = self.galaxy.dust_emission
        return stars + glow if emission is None else stars + glow + self._re_emitted * emission.spectrum(wave)

    def observed_sed(self, unit: str = "maggies") -> Float[Array, " wave"]:
        """Flux density f_nu of all but lines, at the observed wavelengths of the SSP grid."""
        sed = self.rest_sed() * self.galaxy.on_the_way(self.galaxy.ssp.spectrum_wave())
        return sed * (self.dimming / units.AB_LSUN_HZ) * units.per_maggie(unit)

    def fluxes(self, unit: str = "maggies") -> Float[Array, " band"]:
        """Mean flux density f_nu in each band."""
        luminosity = self._in_bands(self.starlight, self.galaxy.redshift, self.galaxy.on_the_way)
        return luminosity * (self.dimming / units.AB_LSUN_HZ) * units.per_maggie(unit)

    def magnitudes(self) -> Float[Array, " band"]:
        """Apparent AB magnitude in each band."""
        return -2.5 * safe_log10(self.fluxes())

    def rest_magnitudes(self) -> Float[Array, " band"]:
        """Absolute AB magnitude in each band at rest."""
        ssp = self.galaxy.ssp
        light = (self._behind(ssp, 0.0) * self._dust(ssp.sampling(0.0))).sum(0)
        luminosity = self._in_bands(light, 0.0, jnp.ones_like)
        return -2.5 * safe_log10(luminosity / units.AB_LSUN_HZ)

    def emission_lines(self, observed: bool = False) -> tuple[Float[Array, " line"], Float[Array, " line"]]:
        """Rest-frame wavelengths in Angstrom of the emission lines, and their luminosities in Lsun after the galaxy's own
        dust; with `observed` after all else that absorbs, too."""
        wave, luminosity, left = self._lines
        luminosity = (luminosity * left).sum(0)
        return wave, luminosity * self.galaxy.on_the_way(wave) if observed else luminosity

    def line_luminosities(self) -> Float[Array, " line"]:
        """Luminosity in Lsun of each emission line, after the galaxy's own dust."""
        return self.emission_lines()[1]

    def line_fluxes(self, unit: str = "cgs") -> Float[Array, " line"]:
        """Observed flux of each emission line, after all that absorbs."""
        luminosity = self.emission_lines(observed=True)[1]
        distance = self.dimming / (1.0 + self.galaxy.redshift)
        return luminosity * distance * (units.LINE_AT_10PC * units.per_cgs_line(unit))

    def equivalent_widths(self) -> Float[Array, " line"]:
        """Equivalent width in Angstrom, at rest and positive in emission, of each emission line; NaN, with derivatives of zero,
        where there is no continuum: beyond the spectrum, and of no light at all."""
        at, sed = self.galaxy.ssp.spectrum_wave(), self.rest_sed()
        wave, luminosity = self.emission_lines()
        blue, red = 0.985 * wave, 1.015 * wave
        continuum = 0.5 * (jnp.interp(blue, at, sed) + jnp.interp(red, at, sed))
        seen = (blue >= at[0]) & (red <= at[-1]) & (continuum > 0.0)
        width = luminosity * wave * wave / (units.C_ANGSTROM * jnp.where(seen, continuum, 1.0))
        return jnp.where(seen, width, jnp.nan)

    def dust_luminosity(self) -> Scalar:
        """Luminosity in Lsun that the galaxy's own dust absorbs, and emits again."""
        return self._re_emitted

    @functools.cached_property
    def dimming(self) -> Scalar:
        """Flux in maggies of a luminosity of 3631 Jy at 10 pc, per Hz at the source."""
        return self.galaxy.cosmology.dimming(self.galaxy.redshift)

    @functools.cached_property
    def starlight(self) -> Float[Array, " wave"]:
        """Luminosity in Lsun/Hz of the stars after dust, at the wavelengths that the SSP library samples."""
        light, left = self._screened
        return (light * left).sum(0)

    @functools.cached_property
    def _stars(self) -> tuple[Float[Array, "met #age"], Float[Array, "screen age"]]:
        """Distribution of metallicity, and mass formed in Msun of each age behind each screen of dust."""
        g = self.galaxy
        t_obs = g.t_obs
        metallicity = g.metallicity.checked_weights(g.ssp.lgmet, g.ssp.lg_age, g.sfh, t_obs)
        return metallicity, g.sfh.age_weights(g.ssp.lg_age, t_obs)[None, :] * self._screens[0]

    @functools.cached_property
    def _screens(self) -> tuple[Float[Array, "screen age"], Float[Array, "screen wave"]]:
        """Share of each age behind each screen of dust, and the screens' transmission where the SSP library is sampled."""
        return self.galaxy.dust.checked_screens(self.galaxy.ssp.sampling(self.galaxy.redshift), self.galaxy.ssp.lg_age)

    def _dust(self, wave: Float[Array, " wave"]) -> Float[Array, "screen wave"]:
        """Transmission of each screen of dust."""
        return self.galaxy.dust.checked_screens(wave, self.galaxy.ssp.lg_age)[1]

    def _behind(self, ssp: SSPLibrary, redshift: Number) -> Float[Array, "screen wave"]:
        """Light of the stars behind each screen, at the wavelengths of a library, of which the gas has taken its part; and the
        continuum of the gas, where the library has that."""
        metallicity, mass = self._stars
        light = ssp.starlight(metallicity, mass, redshift, self.galaxy.metallicity.compact)
        lines = self.galaxy.lines
        if lines is None:
            return light
        left = lines.transmission(ssp.sampling(redshift))
        light = light if left is None else light * left[None, :]
        if not self._gas_among_stars(ssp):
            return light
        parts = self._gas_parts
        return light + (self._continuum(ssp.sampling(redshift)) if parts is None else ssp.gas(lines, parts, redshift))

    @functools.cached_property
    def _screened(self) -> tuple[Float[Array, "screen wave"], Float[Array, "screen wave"]]:
        """Light of the stars behind each screen, and the screens' transmission."""
        return self._behind(self.galaxy.ssp, self.galaxy.redshift), self._screens[1]

    @functools.cached_property
    def _lines(self) -> tuple[Float[Array, " line"], Float[Array, "screen line"], Float[Array, "screen line"]]:
        """Wavelengths of the lines, their luminosities behind each screen, and the screens' transmission."""
        lines, (metallicity, mass) = self.galaxy.lines, self._stars
        if lines is None:
            raise TypeError("this galaxy has no emission lines: build it with lines=NebularLines(ssp).")
        if metallicity.shape[1] == 1:
            wave, luminosity = lines.luminosities_separable(self.galaxy.ssp, metallicity[:, 0], mass)
        else:
            wave, luminosity = lines.luminosities(self.galaxy.ssp, metallicity[None] * mass[:, None, :])
        shapes = jnp.shape(wave), jnp.shape(luminosity)
        if len(shapes[0]) != 1 or shapes[1] != (len(mass), *shapes[0]):
            raise ValueError(
                f"{type(lines).__name__}.luminosities must return wavelengths (line,) and luminosities (screen, line), here of "
                f"{len(mass)} screen(s) of dust; got shapes {shapes[0]} and {shapes[1]}."
            )
        return wave, luminosity, self._dust(wave)

    def _gas_among_stars(self, ssp: SSPLibrary) -> bool:
        """Whether the continuum of the gas is in the light that is `_behind` the screens."""
        lines = self.galaxy.lines
        return lines is not None and lines.has_continuum and ssp.has_gas(lines)

    @functools.cached_property
    def _gas_parts(self) -> Float[Array, "screen part"] | None:
        """How much there is of each of the spectra of which the gas's continuum is a sum, if it is one."""
        lines, (metallicity, mass) = self.galaxy.lines, self._stars
        if metallicity.shape[1] == 1:
            return lines.continuum_parts_separable(self.galaxy.ssp, metallicity[:, 0], mass)
        return lines.continuum_parts(self.galaxy.ssp, metallicity[None] * mass[:, None, :])

    def _continuum(self, wave: Float[Array, " wave"]) -> Float[Array, "screen wave"]:
        """Luminosity in Lsun/Hz of the gas's continuum, before dust."""
        lines, (metallicity, mass) = self.galaxy.lines, self._stars
        if metallicity.shape[1] == 1:
            return lines.continuum_separable(self.galaxy.ssp, metallicity[:, 0], mass, wave)
        return lines.continuum(self.galaxy.ssp, metallicity[None] * mass[:, None, :], wave)

    def _gas(self, wave: Float[Array, " wave"]) -> tuple[Float[Array, " wave"], Scalar]:
        """Of the gas's continuum, where it is not in the light of the stars: luminosity in Lsun/Hz after dust, and the luminosity
        in Lsun that dust absorbs."""
        lines = self.galaxy.lines
        if lines is None or not lines.has_continuum or self._gas_among_stars(self.galaxy.ssp):
            return jnp.zeros_like(wave), jnp.zeros((), wave.dtype)
        nodes, width = (jnp.asarray(x, wave.dtype) for x in _continuum_nodes())
        everywhere = jnp.concatenate([wave, nodes])
        light = self._continuum(everywhere)
        seen = light * self._dust(everywhere)
        absorbed = matmul((light - seen)[:, wave.size :], (width * (units.C_ANGSTROM / nodes))[:, None])
        return seen[:, : wave.size].sum(0), absorbed.sum()

    def _absorbed(self) -> Scalar:
        """Luminosity in Lsun that the dust absorbs of stars, of lines, and of the gas's continuum where it is among the stars."""
        ssp, width = self.galaxy.ssp.bolometric()
        redshift = self.galaxy.redshift
        other = ssp is not self.galaxy.ssp
        light, left = (self._behind(ssp, redshift), self._dust(ssp.sampling(redshift))) if other else self._screened
        absorbed = matmul(light * (1.0 - left), width[:, None]).sum()
        if self.galaxy.lines is not None:
            _, light, left = self._lines
            absorbed = absorbed + (light * (1.0 - left)).sum()
        return absorbed

    @functools.cached_property
    def _re_emitted(self) -> Scalar:
        """Luminosity in Lsun of the galaxy's dust: all that it absorbs."""
        return self._absorbed() + self._gas(jnp.zeros(0, self.galaxy.redshift.dtype))[1]

    def _in_bands(self, starlight: Array, redshift: Number, on_the_way: Any) -> Float[Array, " band"]:
        """Mean luminosity in Lsun/Hz in each band, at a redshift, of all light after what absorbs it on the way."""
        galaxy = self.galaxy
        light = starlight * on_the_way(galaxy.ssp.sampling(redshift))
        bands = galaxy.ssp.band_average(galaxy.filters, light, redshift)
        if galaxy.lines is not None:
            wave, luminosity = self.emission_lines()
            bands = bands + galaxy.filters.line_average(wave, luminosity * on_the_way(wave), redshift)
        has_gas = galaxy.lines is not None and galaxy.lines.has_continuum
        if not has_gas and galaxy.dust_emission is None:
            return bands
        seen, weight = galaxy.filters.samples()
        wave = seen.ravel() / (1.0 + jnp.asarray(redshift, seen.dtype))
        means = lambda light: ((light * on_the_way(wave)).reshape(seen.shape) * weight).sum(-1)  # noqa: E731
        if has_gas and not self._gas_among_stars(galaxy.ssp):
            bands = bands + means(self._gas(wave)[0])
        elif has_gas and (ends := galaxy.ssp.gas_ends()) is not None:
            # the gas shines on where the spectrum has ended
            gas = (self._continuum(wave) * self._dust(wave)).sum(0)
            bands = bands + means(jnp.where((wave < ends[0]) | (wave > ends[1]), gas, 0.0))
        if galaxy.dust_emission is not None:
            # the spectrum first: galaxies that share its parameters share its means
            bands = bands + self._re_emitted * means(galaxy.dust_emission.spectrum(wave))
        return bands
