"""Star formation histories with a formula."""

from typing import final

import jax.numpy as jnp

from dspsx._model import Scalar, param
from dspsx._numerics import pow10
from dspsx.sfh.base import T_TODAY, StarFormationHistory


@final
class DelayedTauSFH(StarFormationHistory):
    r"""Delayed exponential: SFR rises linearly, peaks at tau after the onset and declines exponentially.

    .. math:: SFR(t) = \frac{M}{\tau^2 \, [1 - (1 + X) e^{-X}]} \, s \, e^{-s / \tau}, \quad s = t - (t_{obs} - age), \;
              X = age / \tau

    The onset lies `age` before the observation, or at the Big Bang if that is later; M = 10^lg_mass_formed is the mass
    formed by the observation (surviving stars and remnants are fewer). Commonly used, e.g. Carnall et al. 2019, ApJ 873, 44.
    """

    lg_mass_formed: Scalar = param(10.0, bounds=(4.0, 13.5), unit="log10 Msun", doc="mass formed by the observation")
    age: Scalar = param(5.0, bounds=(0.01, 15.0), unit="Gyr", doc="time since the onset of star formation")
    tau: Scalar = param(1.0, bounds=(0.01, 30.0), unit="Gyr", doc="time scale of the decline")

    def sfr(self, t, t_obs=T_TODAY):
        """Star formation rate in Msun/yr at cosmic times t in Gyr, for a galaxy observed at t_obs."""
        t_obs = jnp.asarray(t_obs, t.dtype)
        return self.rate(t_obs - t, t_obs)

    def rate(self, age, t_obs):
        onset = jnp.minimum(self.age, t_obs)
        tau = self.tau
        x = jnp.maximum(onset - age, 0.0) / tau  # time since the onset in units of tau
        shape = x * jnp.exp(-x) / (tau * _delayed_integral(onset / tau))
        return pow10(self.lg_mass_formed - 9.0) * shape

    def breaks(self, t_obs):
        onset = t_obs - jnp.minimum(self.age, t_obs)
        return onset + self.tau * jnp.asarray([0.0, 1.0, 3.0, 7.0, 15.0], t_obs.dtype)


def _delayed_integral(x):
    """1 - (1 + x) exp(-x), by its series where the two terms cancel."""
    small = x < 0.2
    y = jnp.where(small, x, 0.1)
    series = y * y * (1 / 2 + y * (-1 / 3 + y * (1 / 8 + y * (-1 / 30 + y * (1 / 144 - y / 840)))))
    z = jnp.where(small, 1.0, x)
    return jnp.where(small, series, -jnp.expm1(-z) - z * jnp.exp(-z))
