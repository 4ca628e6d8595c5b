"""Star formation histories that are constant in bins of lookback time, which follow the age of the universe."""

import abc
from typing import final

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from dspsx._model import Scalar, param
from dspsx._numerics import pow10
from dspsx.sfh.base import T_TODAY, StarFormationHistory, at_time

#: Gyr. The two youngest bins end here, the oldest begins at this share of the age of the universe; between them the bins
#: are equal in log age (Leja et al. 2019, section 2.2; Johnson et al. 2021).
_YOUNG, _OLDEST = (0.03, 0.1), 0.85


def lookback_edges(n_bins: int, t_obs: Scalar) -> Float[Array, " edge"]:
    """Edges in Gyr of bins of lookback time at cosmic time t_obs: 0, 30 Myr, 100 Myr, ..., 0.85 t_obs, t_obs.

    Before 0.4 Gyr the young edges shrink with the age of the universe. With fewer than four bins: equal shares of t_obs.
    """
    if n_bins < 4:
        return t_obs * jnp.linspace(0.0, 1.0, n_bins + 1, dtype=t_obs.dtype)
    young = jnp.minimum(t_obs / 0.4, 1.0) * jnp.asarray(_YOUNG, t_obs.dtype)
    share = jnp.asarray(np.arange(1, n_bins - 2) / (n_bins - 3), t_obs.dtype)
    middle = young[1] * (_OLDEST * t_obs / young[1]) ** share
    return jnp.concatenate([jnp.zeros(1, t_obs.dtype), young, middle, t_obs[None]])


class BinnedSFH(StarFormationHistory):
    """Star formation that is constant in bins of lookback time. Write one method, `shares`."""

    lg_mass_formed: eqx.AbstractVar[Scalar]

    @abc.abstractmethod
    def shares(self, width: Float[Array, " bin"]) -> Float[Array, " bin"]:
        """Share of the mass formed in each bin, the youngest first, for bins of such widths in Gyr; they sum to one."""

    @property
    @abc.abstractmethod
    def n_bins(self) -> int:
        """Number of bins."""

    def bins(self, t_obs: Scalar) -> tuple[Float[Array, " edge"], Float[Array, " bin"]]:
        """Edges in Gyr of lookback time, and the rate in Msun/yr in each bin, of a galaxy observed at t_obs."""
        edges = lookback_edges(self.n_bins, t_obs)
        width = jnp.diff(edges)
        return edges, pow10(self.lg_mass_formed - 9.0) * self.shares(width) / width

    def sfr(self, t, t_obs=T_TODAY):
        """Star formation rate in Msun/yr at cosmic times t in Gyr, for a galaxy observed at t_obs."""
        return at_time(self, t, t_obs)

    def rate(self, age, t_obs):
        edges, rates = self.bins(t_obs)
        return _select(age, edges, rates)

    def break_ages(self, t_obs):
        return lookback_edges(self.n_bins, t_obs)[1:-1]


def _select(age, edges, rates):
    """The rate of the bin that each age lies in; none beyond the last."""
    found = jnp.zeros_like(age)
    for i in range(rates.size):
        found = jnp.where((age >= edges[i]) & (age < edges[i + 1]), rates[i], found)
    return found


@final
class ContinuitySFH(BinnedSFH):
    r"""Piecewise-constant history given by the ratios of neighbouring bins (Leja et al. 2019, ApJ 876, 3, section 2.2).

    Ratio i is log10(SFR_i / SFR_{i+1}), bin 0 being the youngest: with all at 0 the rate is constant, and there are as many
    bins as ratios and one. Their usual prior is a Student t with 2 degrees of freedom and a width of 0.3.
    """

    lg_mass_formed: Scalar = param(10.0, bounds=(4.0, 13.5), unit="log10 Msun", doc="mass formed by the observation")
    lg_sfr_ratios: Float[Array, " ratio"] = param(
        np.zeros(6),
        bounds=(-5.0, 5.0),
        unit="dex",
        doc="log10 of the rate in a bin over that in the next older one",
        ndim=1,
    )

    @property
    def n_bins(self):
        return self.lg_sfr_ratios.size + 1

    def shares(self, width):
        lg_rate = -jnp.append(jnp.zeros(1, width.dtype), jnp.cumsum(self.lg_sfr_ratios))
        mass = pow10(lg_rate - lg_rate.max()) * width
        return mass / mass.sum()


@final
class DirichletSFH(BinnedSFH):
    r"""Piecewise-constant history given by shares of the star formation rate with a Dirichlet prior (Leja et al. 2017, ApJ 837,
    170).

    The shares f of the rate are built by breaking sticks (Betancourt 2012, arXiv:1010.3436): :math:`f_0 = 1 - z_0, \; f_1 =
    z_0 (1 - z_1), \; \dots, \; f_n = z_0 \cdots z_{n-1}`, bin 0 being the youngest. The default is a constant rate in seven
    bins. z_i distributed as Beta(a (n - i), a), for n + 1 bins, makes f a symmetric Dirichlet distribution of
    concentration a.
    """

    lg_mass_formed: Scalar = param(10.0, bounds=(4.0, 13.5), unit="log10 Msun", doc="mass formed by the observation")
    z_fraction: Float[Array, " stick"] = param(
        np.arange(6, 0, -1) / np.arange(7, 1, -1),
        bounds=(0.0, 1.0),
        doc="what is left of the stick at each break",
        ndim=1,
    )

    @property
    def n_bins(self):
        return self.z_fraction.size + 1

    def shares(self, width):
        one = jnp.ones(1, width.dtype)
        left = jnp.append(one, jnp.cumprod(self.z_fraction))
        share = left * jnp.append(1.0 - self.z_fraction, one)
        mass = share * width
        return mass / mass.sum()
