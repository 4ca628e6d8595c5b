"""Star formation histories made of others."""

from typing import Any, final

import equinox as eqx
import jax.numpy as jnp

from dspsx import _dsps
from dspsx._model import Scalar, param
from dspsx._numerics import LN10, gauss_legendre, pow10, triweight_cdf, triweight_density, triweight_hat_weights
from dspsx.sfh.base import T_TODAY, StarFormationHistory, as_array, at_time
from dspsx.sfh.parametric import ConstantSFH, DelayedTauSFH
from dspsx.sfh.quadrature import YEARS_PER_GYR

#: Msun: a history of less than this has no stars.
_NO_MASS = 1e-20
#: Gauss-Legendre nodes in the kernel of a burst.
_ORDER_BURST = 16
#: Gyr: no burst has stars younger than this.
_YOUNGEST = 1e-9


@final
class SumSFH(StarFormationHistory):
    """The sum of several histories, such as an old population and a young one: SumSFH(parts=(old, young))."""

    parts: tuple[Any, ...] = eqx.field(
        default_factory=lambda: (DelayedTauSFH(), ConstantSFH(lg_mass_formed=8.5, age=0.1))
    )

    def __check_init__(self):
        if not isinstance(self.parts, tuple) or not self.parts:
            raise TypeError(f"SumSFH.parts must be a tuple of star formation histories; got {self.parts!r}.")
        _check("SumSFH.parts", *self.parts)

    def sfr(self, t, t_obs=None):
        """Star formation rate in Msun/yr at cosmic times t in Gyr; t_obs where the parts are relative to the observation."""
        return sum(at_time(part, t, t_obs) for part in self.parts)

    def rate(self, age, t_obs):
        return sum(part.checked_rate(age, t_obs) for part in self.parts)

    def break_ages(self, t_obs):
        return jnp.concatenate([part.break_ages(t_obs) for part in self.parts])

    def known_until(self):
        return min((part.known_until() for part in self.parts), key=float)

    def _elements(self, t_obs):
        # of each part, as the weights: steps of two parts may be at one age
        return tuple(jnp.concatenate(x) for x in zip(*(part._elements(t_obs) for part in self.parts), strict=True))

    @eqx.filter_jit
    def mean_sfr(self, t_obs, timescale):
        return sum(part.mean_sfr(t_obs, timescale) for part in self.parts)

    def age_weights(self, lg_age, t_obs):
        return sum(part.age_weights(lg_age, t_obs) for part in self.parts)


@final
class NormalisedSFH(StarFormationHistory):
    """Any history, scaled to a mass formed by the observation: e.g. the shape of a `DiffstarSFH` for a galaxy without a halo."""

    sfh: Any = eqx.field(default_factory=DelayedTauSFH)
    lg_mass_formed: Scalar = param(10.0, bounds=(4.0, 13.5), unit="log10 Msun", doc="mass formed by the observation")

    def __check_init__(self):
        _check("NormalisedSFH.sfh", self.sfh)

    def sfr(self, t, t_obs=None):
        """Star formation rate in Msun/yr at cosmic times t in Gyr, for a galaxy observed at t_obs (none: today)."""
        t = as_array(t)
        return at_time(self.sfh, t, t_obs) * self._scale(jnp.asarray(T_TODAY if t_obs is None else t_obs, t.dtype))

    def rate(self, age, t_obs):
        return self.sfh.checked_rate(age, t_obs) * self._scale(t_obs)

    def _scale(self, t_obs):
        return self._over(self.sfh.mass_formed(t_obs))

    def _over(self, mass):
        """What a history of this mass is multiplied by; a history without stars stays without."""
        some = mass > _NO_MASS
        return jnp.where(some, pow10(self.lg_mass_formed) / jnp.where(some, mass, 1.0), 0.0)

    def _elements(self, t_obs):
        age, mass, start = self.sfh._elements(t_obs)
        return age, mass * self._over(mass.sum()), start

    @eqx.filter_jit
    def mean_sfr(self, t_obs, timescale):
        return self.sfh.mean_sfr(t_obs, timescale) * self._scale(t_obs)

    def break_ages(self, t_obs):
        return self.sfh.break_ages(t_obs)

    def known_until(self):
        return self.sfh.known_until()

    def age_weights(self, lg_age, t_obs):
        weights = self.sfh.age_weights(lg_age, t_obs)
        return weights * self._over(weights.sum())


@final
class WithBurst(StarFormationHistory):
    r"""A burst of star formation on top of any history, as a share of the mass formed (DSPS's `diffburst`; Hearin et al. 2023).

    A share :math:`10^{lgfburst}` of the mass has log10(age / yr) distributed as a triweight kernel about `lgyr_peak` that
    ends at `lgyr_max`, three standard deviations above; the history itself keeps the rest, so the mass formed does not
    change. The kernel is at least 1 dex from its peak to its end, as in DSPS; one that would begin before the Big Bang
    begins there.

    The weights of the burst are its integrals against the hat functions of the SSP ages. `scheme="dsps"` takes the
    kernel's values at the SSP ages instead, normalised, as DSPS 0.4.8 does, before the Big Bang too.
    """

    sfh: Any = eqx.field(default_factory=DelayedTauSFH)
    lgfburst: Scalar = param(-3.0, bounds=(-8.0, -1.0), unit="dex", doc="log10 of the burst's share of the mass formed")
    lgyr_peak: Scalar = param(5.5, bounds=(5.0, 8.0), unit="log10 yr", doc="age at which the burst is strongest")
    lgyr_max: Scalar = param(7.0, bounds=(6.0, 9.0), unit="log10 yr", doc="age at which the burst began")
    scheme: str = eqx.field(static=True, default="hat")

    def __check_init__(self):
        _check("WithBurst.sfh", self.sfh)
        if self.scheme not in ("hat", "dsps"):
            raise ValueError(f"WithBurst.scheme must be 'hat' or 'dsps'; got {self.scheme!r}.")

    def sfr(self, t, t_obs=None):
        """Star formation rate in Msun/yr at cosmic times t in Gyr, for a galaxy observed at t_obs (none: today)."""
        t = as_array(t)
        today = jnp.asarray(T_TODAY if t_obs is None else t_obs, t.dtype)
        burst = jnp.where(t <= today, self._burst(today - t, today), 0.0) * self.sfh.mass_formed(today)
        return (1.0 - self._share()) * at_time(self.sfh, t, t_obs) + burst

    def rate(self, age, t_obs):
        burst = self._burst(age, t_obs) * self.sfh.mass_formed(t_obs)
        return (1.0 - self._share()) * self.sfh.checked_rate(age, t_obs) + burst

    def break_ages(self, t_obs):
        peak, scatter = self._kernel(t_obs)
        places = peak + scatter * jnp.asarray([-3.0, -1.0, 1.0, 3.0], t_obs.dtype)
        return jnp.concatenate([self.sfh.break_ages(t_obs), pow10(places)])

    def known_until(self):
        return self.sfh.known_until()

    def age_weights(self, lg_age, t_obs):
        smooth = self.sfh.age_weights(lg_age, t_obs)
        if self.scheme == "dsps":
            burst = _dsps.burst_weights(lg_age, self.lgyr_peak, self._scatter())
        else:
            burst = triweight_hat_weights(lg_age, *self._kernel(jnp.asarray(t_obs, lg_age.dtype)))
        return (1.0 - self._share()) * smooth + (self._share() * smooth.sum()) * burst

    def _elements(self, t_obs):
        # the burst in log age: it may spread over more dex than a panel in age can follow
        age, mass, start = self.sfh._elements(t_obs)
        peak, scatter = self._kernel(jnp.asarray(t_obs, age.dtype))
        x, width = (jnp.asarray(q, age.dtype).reshape(-1, age.shape[1]) for q in gauss_legendre(_ORDER_BURST))
        z = 6.0 * x - 3.0
        of_burst = self._share() * mass.sum() * (6.0 * width * triweight_density(z))
        ages = pow10(peak + scatter * z)
        mass = jnp.concatenate([(1.0 - self._share()) * mass, of_burst])
        return jnp.concatenate([age, ages]), mass, jnp.concatenate([start, ages[:, 0]])

    @eqx.filter_jit
    def mean_sfr(self, t_obs, timescale):
        t_obs, timescale = as_array(t_obs), as_array(timescale)
        peak, scatter = self._kernel(t_obs)
        of_burst = self._share() * triweight_cdf((jnp.log10(timescale) - peak) / scatter)
        of_burst = of_burst * self.sfh.mass_formed(t_obs) / (timescale * YEARS_PER_GYR)
        return (1.0 - self._share()) * self.sfh.mean_sfr(t_obs, timescale) + of_burst

    def _share(self):
        return pow10(self.lgfburst)

    def _scatter(self):
        return jnp.maximum(self.lgyr_max - self.lgyr_peak, 1.0) / 3.0

    def _kernel(self, t_obs):
        """Peak in log10 Gyr and scatter in dex of the ages of a galaxy's burst."""
        end, oldest = self.lgyr_max - 9.0, jnp.log10(t_obs)
        peak = jnp.minimum(self.lgyr_peak - 9.0, oldest - 1.0)
        return peak, jnp.maximum(jnp.minimum(end, oldest) - peak, 1.0) / 3.0

    def _burst(self, age, t_obs):
        """Rate of the burst in 1/yr, for a galaxy of 1 Msun, at an age in Gyr."""
        age, (peak, scatter) = jnp.maximum(age, _YOUNGEST), self._kernel(t_obs)
        z = (jnp.log10(age) - peak) / scatter
        return self._share() * triweight_density(z) / (scatter * LN10 * age * 1e9)


def _check(where, *histories):
    for sfh in histories:
        if not isinstance(sfh, StarFormationHistory):
            raise TypeError(f"{where} must be a star formation history such as DelayedTauSFH(); got {sfh!r}.")
