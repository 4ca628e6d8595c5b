"""Attenuation of starlight by dust: laws of wavelength, and what can be built from them."""

import abc
from typing import Any, final

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float

from dspsx._model import AbstractModel, Scalar, param, require_single
from dspsx._numerics import pow10, power

#: R_V of the starburst law, by which all curves k(lambda) here are normalised: A = A_V k / 4.05.
_RV = 4.05


class DustModel(AbstractModel):
    """What dust does to the light of stars of each age. Write one method, `screens`; for a law of wavelength alone
    subclass `DustLaw` instead."""

    @abc.abstractmethod
    def screens(
        self, wave: Float[Array, " wave"], lg_age: Float[Array, " age"]
    ) -> tuple[Float[Array, "screen age"], Float[Array, "screen wave"]]:
        """The dust as a few screens: (share of the light of each age that passes each screen, its transmission).

        Light of age a is transmitted by sum over screens of share[a] transmission[wave]. A model in which dust depends
        on age needs two or three screens, never an array of (age, wave).
        """

    def checked_screens(
        self, wave: Float[Array, " wave"], lg_age: Float[Array, " age"]
    ) -> tuple[Float[Array, "screen age"], Float[Array, "screen wave"]]:
        """`screens`, with its shapes checked; raises ValueError if a subclass returns others."""
        require_single(self)
        screens = self.screens(wave, lg_age)
        shapes = [jnp.shape(x) for x in screens] if isinstance(screens, tuple) else jnp.shape(screens)
        if not isinstance(screens, tuple) or len(shapes) != 2 or not _fit(shapes, wave.size, lg_age.size):
            raise ValueError(
                f"{type(self).__name__}.screens must return two arrays, the share (screen, {lg_age.size}) and the "
                f"transmission (screen, {wave.size}) of as many screens; got {shapes}."
            )
        return screens


def _fit(shapes: Any, n_wave: int, n_age: int) -> bool:
    share, transmission = shapes
    return share[:1] == transmission[:1] and share[1:] == (n_age,) and transmission[1:] == (n_wave,)


class DustLaw(DustModel):
    """Attenuation that depends on wavelength alone. Write one method, `attenuation`, with `jax.numpy` (it is compiled)."""

    @abc.abstractmethod
    def attenuation(self, wave: Float[Array, " wave"]) -> Float[Array, " wave"]:
        """Attenuation in mag at rest-frame wavelengths in Angstrom."""

    def transmission(self, wave: Float[Array, " wave"]) -> Float[Array, " wave"]:
        """Fraction of the light that passes, 10^(-0.4 A)."""
        return pow10(-0.4 * self.checked_attenuation(wave))

    def checked_attenuation(self, wave: Float[Array, " wave"]) -> Float[Array, " wave"]:
        """`attenuation`, with its shape checked; raises ValueError if a subclass returns another."""
        attenuation = self.attenuation(wave)
        if jnp.shape(attenuation) != wave.shape:
            raise ValueError(
                f"{type(self).__name__}.attenuation must return one value for each wavelength: shape {wave.shape}; got "
                f"{jnp.shape(attenuation)}."
            )
        return attenuation

    def screens(self, wave, lg_age):
        return jnp.ones((1, lg_age.size), wave.dtype), self.transmission(wave)[None, :]


@final
class NoDust(DustLaw):
    """No attenuation: all light passes."""

    def attenuation(self, wave):
        return jnp.zeros_like(wave)


@final
class Calzetti00(DustLaw):
    r"""Starburst attenuation, A = A_V k / 4.05 (Calzetti et al. 2000, ApJ 533, 682, eq. 4).

    Defined from 0.12 to 2.2 micron; extrapolated blueward, and redward to zero at 3.1 micron. The published polynomials
    leave a step of 0.7 % at 0.63 micron.
    """

    av: Scalar = param(0.3, bounds=(0.0, 6.0), unit="mag", doc="attenuation in V")

    def attenuation(self, wave):
        return self.av * jnp.maximum(calzetti00_k(wave), 0.0) / _RV


@final
class Noll09(DustLaw):
    r"""Calzetti law with a UV bump D and a tilt: A = A_V (k + bump D) (lambda / 5500 A)^delta / 4.05 (Noll et al. 2009, A&A
    507, 1793), Leitherer et al. (2002, ApJS 140, 303) below 0.15 micron, as in DSPS."""

    av: Scalar = param(0.3, bounds=(0.0, 6.0), unit="mag", doc="attenuation in V, for delta = 0")
    bump: Scalar = param(1.0, bounds=(0.0, 6.0), doc="amplitude of the 2175 A bump; 3.5 in the Milky Way")
    delta: Scalar = param(-0.2, bounds=(-1.6, 1.0), doc="power law that tilts the curve; negative is steeper")
    bump_wave: Scalar = param(2175.0, bounds=(1500.0, 3000.0), unit="A", doc="centre of the bump", free=False)
    bump_width: Scalar = param(350.0, bounds=(50.0, 1000.0), unit="A", doc="width (FWHM) of the bump", free=False)

    def attenuation(self, wave):
        bump = self.bump * drude(wave, self.bump_wave, self.bump_width)
        k = (starburst_k(wave) + bump) * power(wave / 5500.0, self.delta)
        return self.av * jnp.maximum(k, 0.0) / _RV


@final
class Salim18(DustLaw):
    r"""As `Noll09`, but with the bump outside the tilt: A = A_V [k (lambda / 5500 A)^delta + bump D] / 4.05 (Salim, Boquien
    & Lee 2018, ApJ 859, 11, with R_V held at 4.05, as in DSPS)."""

    av: Scalar = param(0.3, bounds=(0.0, 6.0), unit="mag", doc="attenuation in V")
    bump: Scalar = param(1.0, bounds=(0.0, 6.0), doc="amplitude of the 2175 A bump; 3.5 in the Milky Way")
    delta: Scalar = param(-0.2, bounds=(-1.6, 1.0), doc="power law that tilts the curve; negative is steeper")
    bump_wave: Scalar = param(2175.0, bounds=(1500.0, 3000.0), unit="A", doc="centre of the bump", free=False)
    bump_width: Scalar = param(350.0, bounds=(50.0, 1000.0), unit="A", doc="width (FWHM) of the bump", free=False)

    def attenuation(self, wave):
        bump = self.bump * drude(wave, self.bump_wave, self.bump_width)
        k = starburst_k(wave) * power(wave / 5500.0, self.delta) + bump
        return self.av * jnp.maximum(k, 0.0) / _RV


@final
class PowerLawDust(DustLaw):
    r"""A = A_V (lambda / 5500 A)^slope; slope -0.7 is that of Charlot & Fall (2000, ApJ 539, 718)."""

    av: Scalar = param(0.3, bounds=(0.0, 6.0), unit="mag", doc="attenuation at 5500 A")
    slope: Scalar = param(-0.7, bounds=(-2.0, 0.5), doc="index of the power law")

    def attenuation(self, wave):
        return self.av * power(wave / 5500.0, self.slope)


@final
class PartialCover(DustModel):
    """Dust that covers only part of the stars: transmission 1 - covering (1 - T) (Lower et al. 2022, ApJ 931, 14, where
    1 - covering is the unobscured fraction). Wraps any dust model."""

    dust: DustModel = eqx.field(default_factory=Calzetti00)
    covering: Scalar = param(0.9, bounds=(0.0, 1.0), doc="share of the starlight behind the dust")

    def __check_init__(self):
        if not isinstance(self.dust, DustModel):
            raise TypeError(f"PartialCover.dust must be a dust model such as Calzetti00(); got {self.dust!r}.")

    def screens(self, wave, lg_age):
        share, transmission = self.dust.checked_screens(wave, lg_age)
        # 50 mag through the dust is dark enough, and keeps the gradient finite where covering = 1
        return share, (1.0 - self.covering) + self.covering * jnp.maximum(transmission, 1e-20)


def calzetti00_k(wave: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """k(lambda) of Calzetti et al. (2000), eq. 4; negative beyond 3.1 micron."""
    y = 1e4 / wave
    blue = 2.659 * (-2.156 + y * (1.509 + y * (-0.198 + y * 0.011)))
    red = 2.659 * (-1.857 + 1.040 * y)
    return jnp.where(wave < 6300.0, blue, red) + 4.05


def leitherer02_k(wave: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """k(lambda) of Leitherer et al. (2002), eq. 14, made for 970-1800 A."""
    y = 1e4 / wave
    return 5.472 + y * (0.671 + y * (-9.218e-3 + y * 2.620e-3))


def starburst_k(wave: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """Leitherer et al. (2002) up to 0.15 micron, Calzetti et al. (2000) above."""
    return jnp.where(wave > 1500.0, calzetti00_k(wave), leitherer02_k(wave))


def drude(wave: Float[Array, "*shape"], centre: Scalar, width: Scalar) -> Float[Array, "*shape"]:
    """Drude profile of unit height (Fitzpatrick & Massa 1990, ApJS 72, 163)."""
    ratio = (wave - centre * centre / wave) / width
    return 1.0 / (1.0 + ratio * ratio)
