"""Growth of dark-matter halos: the Diffmah model."""

import abc
from typing import final

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from dspsx._model import AbstractModel, Scalar, param
from dspsx._numerics import pow10

_TRANSITION = 3.5


class MassAccretionHistory(AbstractModel):
    """Mass of a halo over cosmic time. Write one method, `log_mah`."""

    @abc.abstractmethod
    def log_mah(self, t: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        """log10 of the halo mass in Msun at cosmic times t > 0 in Gyr."""

    def breaks(self, t_obs: Scalar) -> Float[Array, " n_breaks"]:
        """Hook: cosmic times in Gyr between which the history is smooth; none by default."""
        return jnp.zeros(0, t_obs.dtype)

    def times_of_mass(self, log_mass: Scalar) -> Float[Array, " n_times"]:
        """Hook: cosmic times in Gyr, good to a few percent, at which the halo reaches log10 of a mass; none by default."""
        return jnp.zeros(0, log_mass.dtype)


@final
class DiffmahHalo(MassAccretionHistory):
    r"""Halo growth as a power law of time whose index rolls from an early to a late value (Hearin et al. 2021, OJAp 4, 7).

    .. math:: \log_{10} M(t) = \log M_0 + \alpha(t) \log_{10}(t / t_0), \quad
              \alpha(t) = early + (late - early) / (1 + e^{-3.5 (\log_{10} t - \log t_c)})

    and M stays constant from t_peak on. The bounds are those of diffmah; its fits also have early >= late.
    """

    logm0: Scalar = param(12.0, bounds=(0.0, 17.0), unit="log10 Msun", doc="halo mass at t0, were t_peak later")
    logtc: Scalar = param(0.05, bounds=(-1.0, 1.0), unit="log10 Gyr", doc="time of the transition")
    early_index: Scalar = param(2.6137643, bounds=(0.1, 10.0), doc="power-law index at early times")
    late_index: Scalar = param(0.12692805, bounds=(0.1, 5.0), doc="power-law index at late times")
    t_peak: Scalar = param(14.0, bounds=(0.05, 20.0), unit="Gyr", doc="time at which the halo stops growing")
    t0: Scalar = param(13.8, bounds=(5.0, 30.0), unit="Gyr", doc="age of the universe today", free=False)

    def log_mah(self, t):
        # in this order the logarithm of times that many halos share, and its exponential, are taken once
        lgt, lg_peak = jnp.log10(t), jnp.log10(self.t_peak)
        grows = lgt < lg_peak
        fading = jnp.where(grows, jnp.exp(-_TRANSITION * lgt), jnp.exp(-_TRANSITION * lg_peak))
        return self._growth(jnp.where(grows, lgt, lg_peak), fading)[0]

    def dmhdt(self, t: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        """Accretion rate in Msun/yr at cosmic times t > 0 in Gyr; zero after t_peak."""
        log_mass, slope = self._growth(lgt := jnp.log10(t), jnp.exp(-_TRANSITION * lgt))
        rate = pow10(log_mass - 9.0) * slope / t
        return jnp.where(t > self.t_peak, 0.0, rate)

    def breaks(self, t_obs):
        return self.t_peak[None]

    def times_of_mass(self, log_mass):
        """By Newton's method in log t, without the halt at t_peak; between a Myr and 30 Gyr."""
        lgt = jnp.log10(self.t0) + (log_mass - self.logm0) / (0.5 * (self.early_index + self.late_index))
        for _ in range(5):
            lgt = jnp.clip(lgt, -3.0, 1.5)
            mass, slope = self._growth(lgt, jnp.exp(-_TRANSITION * lgt))
            lgt = lgt + (log_mass - mass) / jnp.maximum(slope, 0.1)
        return pow10(jnp.clip(lgt, -3.0, 1.5))[None]

    def _growth(self, lgt, fading):
        """log10 M and d log M / d log t, without the halt at t_peak; `fading` is exp(-3.5 log t)."""
        roll = _rolled(fading * jnp.exp(_TRANSITION * self.logtc))
        index = self.early_index + (self.late_index - self.early_index) * roll
        index_slope = (self.late_index - self.early_index) * _TRANSITION * roll * (1.0 - roll)
        since = lgt - jnp.log10(self.t0)
        return self.logm0 + index * since, index + index_slope * since


@jax.custom_jvp
def _rolled(x):
    """1 / (1 + x), the logistic function of -log x; in its derivative is no other division."""
    return 1.0 / (1.0 + x)


@_rolled.defjvp
def _(primals, tangents):
    found = _rolled(*primals)
    return found, -found * found * tangents[0]
