"""StarFormationHistory: one method to write, and what follows from it for every history."""

import abc
from typing import Any

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from dspsx._model import AbstractModel, Number, Scalar, require_single
from dspsx.sfh.quadrature import T_FIRST, YEARS_PER_GYR, hat_age_weights, merged_panels

#: Age of the universe today in Gyr, where nothing else is given.
T_TODAY = 13.8
#: Age cells of integrals that need no SSP grid.
_LG_AGE = np.linspace(-3.5, 1.2, 95)


class StarFormationHistory(AbstractModel):
    """Star formation rate of a galaxy over cosmic time.

    Write one method, `sfr`. Masses are integrals of it by Gauss-Legendre quadrature in age, between the ages of the SSP
    grid; that is accurate to float32's rounding at every age, unlike differences of a cumulative mass.

    Hooks refine the integrals where needed: `breaks`, the times at which the rate has a kink or a step, `rate` and
    `break_ages`, for histories that are defined relative to the time of observation, and `known_until`, for those that end.
    """

    @abc.abstractmethod
    def sfr(self, t: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        """Star formation rate in Msun/yr at cosmic times t > 0 in Gyr."""

    def breaks(self, t_obs: Scalar) -> Float[Array, " n_breaks"]:
        """Hook: cosmic times in Gyr between which `sfr` is smooth, in any order; none by default."""
        if type(self).break_ages is not StarFormationHistory.break_ages:
            return t_obs - self.break_ages(t_obs)
        return jnp.zeros(0, t_obs.dtype)

    def break_ages(self, t_obs: Scalar) -> Float[Array, " n_breaks"]:
        """Hook: the same as lookback times before t_obs, in place of `breaks`, for histories whose rate steps at an age. A rate
        that steps must do so at these very ages, which t_obs - (t_obs - age) is not."""
        return t_obs - self.breaks(t_obs)

    def rate(self, age: Float[Array, "*shape"], t_obs: Scalar) -> Float[Array, "*shape"]:
        """Hook: star formation rate in Msun/yr at a lookback time `age` before t_obs; sfr(t_obs - age) by default.

        Galaxies in a batch share the ages at which they are asked: some lie beyond t_obs, where the rate does not count but
        must be finite, and have finite derivatives."""
        t = t_obs - age
        return self.sfr(jnp.where(t < T_FIRST, T_FIRST, t))

    def known_until(self) -> float | Scalar:
        """Hook: the last cosmic time in Gyr that the history knows of."""
        return float("inf")

    def age_weights(self, lg_age: Float[Array, " age"], t_obs: Number) -> Float[Array, " age"]:
        r"""Mass formed in Msun that belongs to each age of the SSP grid, for a galaxy observed at cosmic time t_obs.

        :math:`m_i = \int_0^{t_{obs}} SFR(t_{obs} - a) \, \phi_i(\log a) \, da`, where the hat functions :math:`\phi_i`
        interpolate the spectra linearly in log age. Stars younger than the first age count as of the first, those older
        than the last as of the last, so that the sum is the total mass formed.
        """
        return hat_age_weights(self, lg_age, jnp.asarray(t_obs, lg_age.dtype))

    @eqx.filter_jit
    def mass_formed(self, t_obs: Number) -> Scalar:
        """Mass formed in Msun by cosmic time t_obs; stars that have died since are counted."""
        _, mass, _ = self._elements(t_obs)
        return mass.sum()

    @eqx.filter_jit
    def mean_age(self, t_obs: Number) -> Scalar:
        """Mean age in Gyr of the stars formed by t_obs, weighted by the mass formed."""
        age, mass, _ = self._elements(t_obs)
        return (age * mass).sum() / jnp.maximum(mass.sum(), 1e-30)

    @eqx.filter_jit
    def mean_sfr(self, t_obs: Number, timescale: Number) -> Scalar:
        """Hook: star formation rate in Msun/yr averaged over the last `timescale` Gyr before t_obs."""
        timescale = self._scalar(timescale)
        edges = timescale * jnp.linspace(0.0, 1.0, 9, dtype=timescale.dtype)
        _, mass, panel_start = merged_panels(self, edges[1:], self._scalar(t_obs))
        recent = jnp.where(panel_start[:, None] < timescale, mass, 0.0)
        return recent.sum() / (timescale * YEARS_PER_GYR)

    def sfr_now(self, t_obs: Number) -> Scalar:
        """Star formation rate in Msun/yr at cosmic time t_obs."""
        t_obs = self._scalar(t_obs)
        return self.checked_rate(jnp.zeros(1, t_obs.dtype), t_obs)[0]

    def checked_rate(self, age: Float[Array, " age"], t_obs: Scalar) -> Float[Array, " age"]:
        """`rate`, with its shape checked; raises ValueError if a subclass returns another."""
        require_single(self)
        rate = self.rate(age, t_obs)
        if jnp.shape(rate) != age.shape:
            raise ValueError(
                f"{type(self).__name__}.sfr must return one rate for each time: shape {age.shape}; got {jnp.shape(rate)}."
            )
        return rate if jnp.issubdtype(rate.dtype, jnp.inexact) else rate.astype(age.dtype)

    def _elements(self, t_obs):
        t_obs = self._scalar(t_obs)
        return merged_panels(self, jnp.asarray(10.0**_LG_AGE, t_obs.dtype), t_obs)

    def _scalar(self, x) -> Scalar:
        return as_array(x)


def as_array(x: Number | Array) -> Array:
    """A number, or many, of the precision that it has or else of JAX's."""
    return x if eqx.is_inexact_array(x) else jnp.asarray(x, dtype=float)


def at_time(sfh: StarFormationHistory, t: Any, t_obs: Number | None) -> Array:
    """Rate of a history at cosmic times t, in Gyr, of a galaxy observed at t_obs, after which there is none; without t_obs
    as `sfr` has it."""
    t = as_array(t)
    if t_obs is None:
        return sfh.sfr(t)
    t_obs = jnp.asarray(t_obs, t.dtype)
    return jnp.where(t <= t_obs, sfh.rate(jnp.maximum(t_obs - t, 0.0), t_obs), 0.0)
