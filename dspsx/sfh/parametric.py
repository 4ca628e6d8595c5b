"""Star formation histories with a formula. All form 10^lg_mass_formed by the observation; surviving stars are fewer."""

import math
from typing import final

import jax.numpy as jnp
import numpy as np
from jax.scipy.special import log_ndtr

from dspsx._model import Scalar, param
from dspsx._numerics import gauss_legendre, pow10
from dspsx.sfh.base import T_TODAY, StarFormationHistory, at_time
from dspsx.sfh.quadrature import T_FIRST

_LG_MASS = {"bounds": (4.0, 13.5), "unit": "log10 Msun", "doc": "mass formed by the observation"}
_ONSET = {"bounds": (0.01, 15.0), "unit": "Gyr", "doc": "time since the onset of star formation"}
_TAU = {"bounds": (0.01, 30.0), "unit": "Gyr", "doc": "time scale of the decline"}


@final
class ConstantSFH(StarFormationHistory):
    r"""Constant rate since an onset `age` before the observation, or since the Big Bang if that is later: M / age."""

    lg_mass_formed: Scalar = param(10.0, **_LG_MASS)
    age: Scalar = param(5.0, **_ONSET)

    def sfr(self, t, t_obs=T_TODAY):
        """Star formation rate in Msun/yr at cosmic times t in Gyr, for a galaxy observed at t_obs."""
        return at_time(self, t, t_obs)

    def rate(self, age, t_obs):
        onset = jnp.minimum(self.age, t_obs)
        return jnp.where(age < onset, pow10(self.lg_mass_formed - 9.0) / onset, 0.0)

    def break_ages(self, t_obs):
        return jnp.minimum(self.age, t_obs)[None]


@final
class BurstSFH(StarFormationHistory):
    r"""A burst that began `age` before the observation and went on at a constant rate for a short `duration`: M / duration.

    With the default of 1 Myr it stands for an instantaneous burst, a simple stellar population; its rate and its gradients
    stay finite. Of a burst that still goes on, what has formed by the observation is M; one before the Big Bang begins there.
    """

    lg_mass_formed: Scalar = param(9.0, **_LG_MASS)
    age: Scalar = param(0.5, bounds=(1e-3, 15.0), unit="Gyr", doc="time since the burst began")
    duration: Scalar = param(1e-3, bounds=(1e-5, 1.0), unit="Gyr", doc="how long it lasted", free=False)

    def sfr(self, t, t_obs=T_TODAY):
        """Star formation rate in Msun/yr at cosmic times t in Gyr, for a galaxy observed at t_obs."""
        return at_time(self, t, t_obs)

    def rate(self, age, t_obs):
        first, last = self._ages(t_obs)
        return jnp.where((age <= first) & (age >= last), pow10(self.lg_mass_formed - 9.0) / (first - last), 0.0)

    def break_ages(self, t_obs):
        return jnp.stack(self._ages(t_obs))

    def _ages(self, t_obs):
        first = jnp.minimum(self.age, t_obs)
        # differences of a float32 age resolve a ten-thousandth of it
        lasted = jnp.minimum(jnp.maximum(self.duration, 1e-4 * first), first)
        return first, first - lasted


@final
class ExponentialSFH(StarFormationHistory):
    r"""Exponential decline, often called a tau model.

    .. math:: SFR(t) = \frac{M}{\tau \, (1 - e^{-X})} \, e^{-s / \tau}, \quad s = t - (t_{obs} - age), \; X = age / \tau

    The onset lies `age` before the observation, or at the Big Bang if that is later. E.g. Carnall et al. 2019, ApJ 873, 44.
    """

    lg_mass_formed: Scalar = param(10.0, **_LG_MASS)
    age: Scalar = param(5.0, **_ONSET)
    tau: Scalar = param(1.0, **_TAU)

    def sfr(self, t, t_obs=T_TODAY):
        """Star formation rate in Msun/yr at cosmic times t in Gyr, for a galaxy observed at t_obs."""
        return at_time(self, t, t_obs)

    def rate(self, age, t_obs):
        onset = jnp.minimum(self.age, t_obs)
        x = (onset - age) / self.tau
        shape = jnp.exp(-jnp.maximum(x, 0.0)) / (-jnp.expm1(-onset / self.tau) * self.tau)
        return jnp.where(x > 0, pow10(self.lg_mass_formed - 9.0) * shape, 0.0)

    def break_ages(self, t_obs):
        return jnp.minimum(self.age, t_obs) - self.tau * jnp.asarray([0.0, 2.0, 5.0, 10.0, 17.0], t_obs.dtype)


@final
class DelayedTauSFH(StarFormationHistory):
    r"""Delayed exponential: SFR rises linearly, peaks at tau after the onset and declines exponentially.

    .. math:: SFR(t) = \frac{M}{\tau^2 \, [1 - (1 + X) e^{-X}]} \, s \, e^{-s / \tau}, \quad s = t - (t_{obs} - age), \;
              X = age / \tau

    The onset lies `age` before the observation, or at the Big Bang if that is later. E.g. Carnall et al. 2019, ApJ 873, 44.
    """

    lg_mass_formed: Scalar = param(10.0, **_LG_MASS)
    age: Scalar = param(5.0, **_ONSET)
    tau: Scalar = param(1.0, **_TAU)

    def sfr(self, t, t_obs=T_TODAY):
        """Star formation rate in Msun/yr at cosmic times t in Gyr, for a galaxy observed at t_obs."""
        return at_time(self, t, t_obs)

    def rate(self, age, t_obs):
        onset = jnp.minimum(self.age, t_obs)
        tau = self.tau
        x = jnp.maximum(onset - age, 0.0) / tau  # time since the onset in units of tau
        shape = x * jnp.exp(-x) / (tau * _delayed_integral(onset / tau))
        return pow10(self.lg_mass_formed - 9.0) * shape

    def break_ages(self, t_obs):
        return jnp.minimum(self.age, t_obs) - self.tau * jnp.asarray([0.0, 1.0, 3.0, 7.0, 15.0], t_obs.dtype)


@final
class GaussianSFH(StarFormationHistory):
    r"""A Gaussian in time, cut at the Big Bang and at the observation.

    .. math:: SFR \propto \exp \left[ -\frac{(a - age)^2}{2 \, sigma^2} \right]

    in lookback time a; the peak lies `age` before the observation, or at the Big Bang if that is later.
    """

    lg_mass_formed: Scalar = param(10.0, **_LG_MASS)
    age: Scalar = param(5.0, bounds=(0.0, 15.0), unit="Gyr", doc="lookback time of the peak")
    sigma: Scalar = param(1.0, bounds=(0.01, 10.0), unit="Gyr", doc="standard deviation")

    def sfr(self, t, t_obs=T_TODAY):
        """Star formation rate in Msun/yr at cosmic times t in Gyr, for a galaxy observed at t_obs."""
        return at_time(self, t, t_obs)

    def rate(self, age, t_obs):
        peak, sigma = jnp.minimum(self.age, t_obs), self.sigma
        norm = math.sqrt(2.0 * math.pi) * sigma * (_ndtr(peak / sigma) + _ndtr((t_obs - peak) / sigma) - 1.0)
        shape = jnp.exp(-0.5 * jnp.minimum(((age - peak) / sigma) ** 2, 150.0)) / norm
        return jnp.where((age >= 0) & (age <= t_obs), pow10(self.lg_mass_formed - 9.0) * shape, 0.0)

    def break_ages(self, t_obs):
        return jnp.minimum(self.age, t_obs) + self.sigma * jnp.asarray(
            [-4.5, -3.0, -1.5, 0.0, 1.5, 3.0, 4.5], t_obs.dtype
        )


@final
class LognormalSFH(StarFormationHistory):
    r"""Lognormal in cosmic time (Gladders et al. 2013, ApJ 770, 64; Diemer et al. 2017, ApJ 839, 26).

    .. math:: SFR(t) \propto \frac{1}{t} \exp \left[ -\frac{(\ln t - T_0)^2}{2 \tau^2} \right]

    given by the time of its peak, :math:`t_{peak} = e^{T_0 - \tau^2}`, and its full width at half maximum,
    :math:`fwhm = 2 \, t_{peak} \sinh(\sqrt{2 \ln 2} \, \tau)`. A peak after the observation is a rising history.
    """

    lg_mass_formed: Scalar = param(10.0, **_LG_MASS)
    t_peak: Scalar = param(3.0, bounds=(0.1, 20.0), unit="Gyr", doc="cosmic time of the peak")
    fwhm: Scalar = param(4.0, bounds=(0.1, 30.0), unit="Gyr", doc="full width at half maximum")

    def sfr(self, t, t_obs=T_TODAY):
        """Star formation rate in Msun/yr at cosmic times t in Gyr, for a galaxy observed at t_obs."""
        return at_time(self, t, t_obs)

    def rate(self, age, t_obs):
        t0, tau = self._scale()
        t = jnp.maximum(t_obs - age, T_FIRST)
        young = age < 0.5 * t_obs
        # ln(t / t_obs), exact to rounding at young ages, too: a narrow lognormal long before its peak rises within them
        x = jnp.where(young, jnp.log1p(-jnp.where(young, age, 0.0) / t_obs), jnp.log(t / t_obs))
        z = (jnp.log(t_obs) - t0) / tau
        # exp(-y^2/2), with y = z + x / tau, over the integral to t_obs, both relative to exp(-z^2/2), which may be tiny
        power = jnp.clip(-0.5 * x / tau * (2.0 * z + x / tau) - _log_ndtr_scaled(z), -80.0, 80.0)
        shape = jnp.exp(power) / (math.sqrt(2.0 * math.pi) * tau * t)
        return jnp.where(age < t_obs, pow10(self.lg_mass_formed - 9.0) * shape, 0.0)

    def break_ages(self, t_obs):
        t0, tau = self._scale()
        x_obs = jnp.log(t_obs)
        # long before the peak the rise is exponential, with a scale of tau over the distance in units of tau
        rise = tau / jnp.maximum((t0 - x_obs) / (3.0 * tau), 1.0)
        before, after = (jnp.asarray(q, t_obs.dtype) for q in ([-4.5, -3.0, -2.0, -1.0], [0.0, 1.5, 3.0, 4.5]))
        x = jnp.minimum(t0 - x_obs, 0.0) + jnp.concatenate([rise * before, tau * after])
        return -t_obs * jnp.expm1(jnp.clip(x, -20.0, 5.0))

    def _scale(self):
        tau = jnp.arcsinh(self.fwhm / (2.0 * self.t_peak)) / math.sqrt(2.0 * math.log(2.0))
        return jnp.log(self.t_peak) + tau * tau, tau


@final
class DoublePowerLawSFH(StarFormationHistory):
    r"""Rising and falling power laws of cosmic time (Carnall et al. 2018, MNRAS 480, 4379, eq. 5).

    .. math:: SFR(t) \propto \left[ (t / \tau)^\alpha + (t / \tau)^{-\beta} \right]^{-1}
    """

    lg_mass_formed: Scalar = param(10.0, **_LG_MASS)
    tau: Scalar = param(3.0, bounds=(0.1, 15.0), unit="Gyr", doc="cosmic time where the two power laws meet")
    alpha: Scalar = param(3.0, bounds=(0.01, 1000.0), doc="index of the decline")
    beta: Scalar = param(1.0, bounds=(0.01, 1000.0), doc="index of the rise")

    def sfr(self, t, t_obs=T_TODAY):
        """Star formation rate in Msun/yr at cosmic times t in Gyr, for a galaxy observed at t_obs."""
        return at_time(self, t, t_obs)

    def rate(self, age, t_obs):
        x_obs = jnp.log(t_obs / self.tau)
        x = jnp.log(jnp.maximum(t_obs - age, T_FIRST) / self.tau)
        lg_shape = self._lg_shape(x) - self._lg_shape(jnp.minimum(x_obs, 0.0))
        norm = self.tau * self._integral(x_obs)
        shape = jnp.exp(jnp.clip(lg_shape, -80.0, 80.0)) / norm
        return jnp.where(age < t_obs, pow10(self.lg_mass_formed - 9.0) * shape, 0.0)

    def breaks(self, t_obs):
        rise, fall, turn = 1.0 / (1.0 + self.beta), 1.0 / (1.0 + self.alpha), 1.0 / (self.alpha + self.beta)
        # where one side is much steeper, the turn rounds off the other one
        turn = jnp.where(self.alpha > self.beta, -3.0, 3.0) * turn
        x = jnp.stack([-12.0 * rise, -4.0 * rise, -1.0 * rise, turn, 0.0 * turn, fall, 4.0 * fall, 12.0 * fall])
        late = jnp.minimum(self.tau, t_obs)
        return late * jnp.exp(jnp.clip(x, -20.0, 5.0))

    def _lg_shape(self, x):
        """Log of the shape at ln(t / tau)."""
        return -jnp.logaddexp(self.alpha * x, -self.beta * x)

    def _integral(self, x_obs):
        """Integral of the shape over t / tau to the observation, relative to the shape at tau, or at the observation.

        In x = ln(t / tau): panels that follow the rise, the turn and the decline, wherever they are and however steep.
        """
        dtype = x_obs.dtype
        top = jnp.minimum(x_obs, 0.0)
        rise, turn = 1.0 / (1.0 + self.beta), 1.0 / (self.alpha + self.beta)
        span = jnp.clip(x_obs, 1e-9, 18.0 / jnp.maximum(self.alpha - 1.0, 0.1))
        steps = jnp.asarray(np.linspace(0.0, 1.0, 11), dtype)
        left = _geometric(0.5 * jnp.minimum(turn, rise), 24.0 * rise, steps)
        right = _geometric(jnp.minimum(0.5 * turn, 0.02 * span), span, steps)
        edges = top + jnp.concatenate([-left[::-1], jnp.zeros(1, dtype), right])
        nodes, weights = (jnp.asarray(q, dtype)[None, :] for q in gauss_legendre(5))
        width = jnp.diff(edges)[:, None]
        x = edges[:-1, None] + width * nodes
        return (jnp.exp(x + self._lg_shape(x) - self._lg_shape(top)) * width * weights).sum()


def _geometric(first, last, steps):
    """From first to last by equal factors."""
    return first * jnp.exp(jnp.log(last / first) * steps)


def _ndtr(x):
    return jnp.exp(log_ndtr(x))


def _log_ndtr_scaled(z):
    """log of the normal integral to z, plus z^2 / 2: of order one where both are huge."""
    far = z < -8.0
    near, z = jnp.where(far, -8.0, z), jnp.where(far, z, -8.0)
    w = 1.0 / (z * z)
    series = jnp.log1p(-w * (1.0 - w * (3.0 - w * (15.0 - 105.0 * w)))) - jnp.log(-z) - 0.5 * math.log(2 * math.pi)
    return jnp.where(far, series, log_ndtr(near) + 0.5 * near * near)


def _delayed_integral(x):
    """1 - (1 + x) exp(-x), by its series where the two terms cancel."""
    small = x < 0.2
    y = jnp.where(small, x, 0.1)
    series = y * y * (1 / 2 + y * (-1 / 3 + y * (1 / 8 + y * (-1 / 30 + y * (1 / 144 - y / 840)))))
    z = jnp.where(small, 1.0, x)
    return jnp.where(small, series, -jnp.expm1(-z) - z * jnp.exp(-z))
