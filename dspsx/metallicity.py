"""Metallicity of the stars: how the mass formed at each age is shared among the metallicities of the SSP grid."""

import abc
from typing import Any, final

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from dspsx import _dsps
from dspsx._model import AbstractModel, Scalar, data, is_concrete, param, require_single
from dspsx._numerics import LN10, gauss_legendre, gaussian_hat_weights, pow10, triweight_hat_weights
from dspsx.sfh.base import StarFormationHistory
from dspsx.sfh.quadrature import T_FIRST

_LGMET = {"bounds": (-4.5, -1.0), "unit": "log10 Z"}
_SCATTER = {"bounds": (0.0, 1.0), "unit": "dex"}


class MetallicityModel(AbstractModel):
    """Distribution of metallicity of the stars of a galaxy, P(Z given age).

    Write one method, `weights`. The metallicity is log10(Z), an absolute mass fraction.
    """

    @abc.abstractmethod
    def weights(
        self,
        lgmet: Float[Array, " met"],
        lg_age: Float[Array, " age"],
        sfh: StarFormationHistory,
        t_obs: Scalar,
    ) -> Float[Array, "met #age"]:
        """P(Z given age) on the SSP grid: each column sums to one; a single column if age does not matter.

        `sfh` and `t_obs` (Gyr) are there for models in which metallicity follows the galaxy's history.
        """

    @property
    def compact(self) -> bool:
        """Hook: whether a weight of zero has derivatives of zero, as those of a kernel of compact support have (in float32, but
        for a thousandth of the largest, where it is smaller than rounding). Of a large grid only the spectra with weight are then
        read. False unless a subclass says so, which is always right."""
        return False

    def joint_weights(
        self,
        lgmet: Float[Array, " met"],
        lg_age: Float[Array, " age"],
        sfh: StarFormationHistory,
        t_obs: Scalar,
    ) -> Float[Array, "met age"]:
        """Mass formed in Msun at each point of the SSP grid."""
        return self.checked_weights(lgmet, lg_age, sfh, t_obs) * sfh.age_weights(lg_age, t_obs)[None, :]

    def checked_weights(
        self,
        lgmet: Float[Array, " met"],
        lg_age: Float[Array, " age"],
        sfh: StarFormationHistory,
        t_obs: Scalar,
    ) -> Float[Array, "met #age"]:
        """`weights`, with their shape checked; raises ValueError if a subclass returns another."""
        require_single(self)
        given_age = self.weights(lgmet, lg_age, sfh, t_obs)
        shape = jnp.shape(given_age)
        if shape not in ((lgmet.size, 1), (lgmet.size, lg_age.size)):
            raise ValueError(
                f"{type(self).__name__}.weights must return shape ({lgmet.size}, {lg_age.size}) or ({lgmet.size}, 1); got "
                f"{shape}."
            )
        return given_age


@final
class LognormalMDF(MetallicityModel):
    r"""Lognormal metallicity distribution, the same for every age: lgmet is the median, `scatter` its width in dex.

    The kernel is the triweight, a Gaussian-like bump of compact support (+-3 scatter) as in DSPS, or a Gaussian with
    `kernel="gaussian"`. By default the spectra are linear in lgmet between grid points, and the weight of point i is the
    integral of the distribution against its hat function, in closed form: the mean metallicity is kept, weights are never
    negative, the gradient with respect to lgmet never vanishes inside the grid, and scatter = 0 is allowed. What lies beyond
    the grid goes to its first or last point.

    `scheme="dsps"` gives the weights of DSPS 0.4.8, the integral of the kernel between its bin edges (Hearin et al.
    2023, MNRAS 521, 1741): on irregular grids its mean metallicity is off by up to 0.46 dex (BC03's seven), and
    at small scatter its gradient is zero over most of the range.
    """

    lgmet: Scalar = param(-2.0, doc="absolute mass fraction; solar is about -1.85", **_LGMET)
    scatter: Scalar = param(0.2, doc="width of the metallicity distribution", **_SCATTER)
    scheme: str = eqx.field(static=True, default="hat")
    kernel: str = eqx.field(static=True, default="triweight")

    def __check_init__(self):
        _one_of("LognormalMDF.scheme", self.scheme, ("hat", "dsps"))
        _one_of("LognormalMDF.kernel", self.kernel, ("triweight", "gaussian"))
        if self.scheme == "dsps" and self.kernel == "gaussian":
            raise ValueError("LognormalMDF: scheme='dsps' has the triweight kernel only.")

    @property
    def compact(self):
        return self.kernel == "triweight"

    def weights(self, lgmet, lg_age, sfh, t_obs):
        if self.kernel == "gaussian":
            return gaussian_hat_weights(lgmet, self.lgmet, self.scatter)[:, None]
        return _rule(self.scheme)(lgmet, self.lgmet, self.scatter)[:, None]


@final
class DeltaMDF(MetallicityModel):
    """One metallicity for all stars: the spectra are interpolated to it, linearly in lgmet."""

    lgmet: Scalar = param(-2.0, doc="absolute mass fraction; solar is about -1.85", **_LGMET)

    @property
    def compact(self):
        return True

    def weights(self, lgmet, lg_age, sfh, t_obs):
        return triweight_hat_weights(lgmet, self.lgmet, jnp.zeros_like(self.lgmet))[:, None]


@final
class ExponentialMDF(MetallicityModel):
    r"""Exponential distribution of the mass fraction, :math:`p(Z) = e^{-Z / Z_0} / Z_0` with lgmet = log10(Z_0), as expected of
    a closed box (e.g. Carnall et al. 2018, MNRAS 480, 4379). What lies beyond the grid goes to its first or last point."""

    lgmet: Scalar = param(-2.0, doc="log10 of the mean mass fraction", **_LGMET)

    def weights(self, lgmet, lg_age, sfh, t_obs):
        x, w = (jnp.asarray(q, lgmet.dtype)[None, :] for q in gauss_legendre(6))
        width = jnp.diff(lgmet)[:, None]
        at = lgmet[:-1, None] + width * x
        lg_ratio = LN10 * (at - self.lgmet)
        # of what a cell holds, which is known exactly, the share of each node of the quadrature
        node = jax.nn.softmax(jnp.log(w) + lg_ratio - jnp.exp(lg_ratio), axis=1)
        beyond = jnp.exp(-pow10(lgmet - self.lgmet))
        share = -jnp.diff(beyond)[:, None] * node
        weights = jnp.zeros_like(lgmet).at[:-1].add((share * (1.0 - x)).sum(1)).at[1:].add((share * x).sum(1))
        return weights.at[0].add(1.0 - beyond[0]).at[-1].add(beyond[-1])[:, None]


@final
class AgeCorrelatedMDF(MetallicityModel):
    r"""Metallicity that correlates with stellar age: lognormal at each age, with a median that goes smoothly from one plateau
    for young stars to another for old ones.

    .. math:: \langle \log Z \rangle (a) = lgmet_{young} + \frac{lgmet_{old} - lgmet_{young}}{1 + e^{-k (\log a - lg\_age\_mid)}}

    With equal plateaus it is `LognormalMDF`. Hearin et al. 2023, MNRAS 521, 1741, section 3, on age-metallicity relations in
    differentiable population synthesis; the kernel and the weights are those of `LognormalMDF`.
    """

    lgmet_young: Scalar = param(-1.8, doc="median of the youngest stars", **_LGMET)
    lgmet_old: Scalar = param(-2.4, doc="median of the oldest stars", **_LGMET)
    lg_age_mid: Scalar = param(0.0, bounds=(-2.0, 1.15), unit="log10 Gyr", doc="age half way between the plateaus")
    k: Scalar = param(3.0, bounds=(0.3, 20.0), unit="1/dex", doc="steepness of the transition")
    scatter: Scalar = param(0.2, doc="width of the distribution at one age", **_SCATTER)

    @property
    def compact(self):
        return True

    def median(self, lg_age: Float[Array, " age"]) -> Float[Array, " age"]:
        """Median log10(Z) of stars of an age in log10 Gyr."""
        old = jax.nn.sigmoid(self.k * (lg_age - self.lg_age_mid))
        return self.lgmet_young + (self.lgmet_old - self.lgmet_young) * old

    def weights(self, lgmet, lg_age, sfh, t_obs):
        return _at_each_age("hat", lgmet, self.median(lg_age), self.scatter)


@final
class TabulatedMetallicity(MetallicityModel):
    """Metallicity history: the median log10(Z) of the stars formed at each cosmic time, linear in log t between the entries
    of a table and constant beyond them, with a lognormal scatter at each age.

    `scheme="dsps"` gives the weights of DSPS 0.4.8 (see `LognormalMDF`), for `calc_ssp_weights_sfh_table_met_table`.

    **Fields:** `t_table` (t,) Gyr, increasing, shared by all galaxies of a batch; `lgmet_table` (t,); `scatter` dex.
    """

    t_table: Float[Array, " t"] = data()
    lgmet_table: Float[Array, " t"] = param(
        bounds=(-4.5, -1.0), unit="log10 Z", doc="median metallicity at each time of the table", free=False, ndim=1
    )
    scatter: Scalar = param(0.2, doc="width of the distribution at one age", **_SCATTER)
    scheme: str = eqx.field(static=True, default="hat")

    def __check_init__(self):
        _one_of("TabulatedMetallicity.scheme", self.scheme, ("hat", "dsps"))
        for name in ("t_table", "lgmet_table"):
            if not eqx.is_inexact_array(getattr(self, name)):
                raise TypeError(
                    f"TabulatedMetallicity.{name} must be an array of numbers; got {getattr(self, name)!r}."
                )
        if self.t_table.ndim != 1 or self.t_table.shape != self.lgmet_table.shape:
            raise ValueError(
                "TabulatedMetallicity needs t_table and lgmet_table of one length; got shapes "
                f"{self.t_table.shape} and {self.lgmet_table.shape}."
            )
        if is_concrete(self.t_table):
            t = np.asarray(self.t_table)
            if t.size < 2 or not np.isfinite(t).all() or (np.diff(t) <= 0).any() or t[0] <= 0 or t[-1] > 100:
                raise ValueError(
                    "TabulatedMetallicity.t_table must hold at least two positive, strictly increasing times in Gyr."
                )

    @property
    def compact(self):
        return True

    def weights(self, lgmet, lg_age, sfh, t_obs):
        born = jnp.log10(jnp.maximum(t_obs - pow10(lg_age), T_FIRST))
        median = jnp.interp(born, jnp.log10(self.t_table), self.lgmet_table)
        return _at_each_age(self.scheme, lgmet, median, self.scatter)


@final
class MassMetallicity(MetallicityModel):
    r"""The relation between a galaxy's mass and its metallicity, and how it evolves, as in DSPS (`dsps.metallicity.umzr`).

    .. math::
        \log Z = \log 0.012 + y_0 + s(m) (m - 10.5) + \min(0, \Delta(t_{lb})), \quad m = \log M

    s is a sigmoid in m from `slope_lo` to `slope_hi`, t_lb = 12.5 Gyr - t, and Delta bends at t_lb = `tlook_c` from a late to
    an early slope, each linear in m through `c0_y, c1_y` and `c0_slope, c1_slope` (Hearin et al. 2023, MNRAS 521, 1741; local
    relation of Gallazzi et al. 2005, MNRAS 362, 41, evolution of Maiolino et al. 2008, A&A 488, 463). M is the mass formed.

    `when="observed"` gives all stars one metallicity, that of the galaxy's mass at the observation. `when="formed"` is self
    consistent: every generation of stars is born at the metallicity of the mass that the galaxy's own history had then
    formed. `pivot="x0"` measures masses from x0 instead of 10.5 (`dsps.metallicity.mzr`); the two agree at the defaults.
    """

    y0: Scalar = param(0.05, bounds=(-1.0, 0.25), unit="dex", doc="log10 Z / 0.012 today at the pivot mass")
    x0: Scalar = param(10.5, bounds=(10.25, 10.75), unit="log10 Msun", doc="mass at which the slope changes")
    k: Scalar = param(1.0, bounds=(0.5, 2.0), unit="1/dex", doc="how fast the slope changes")
    slope_lo: Scalar = param(0.4, bounds=(0.1, 1.0), doc="slope at low mass")
    slope_hi: Scalar = param(0.1, bounds=(0.0, 0.3), doc="slope at high mass")
    c0_y: Scalar = param(-1.455, bounds=(-2.0, -1.0), unit="dex", doc="evolution at tlook_c, constant term")
    c1_y: Scalar = param(0.13, bounds=(0.0, 0.5), doc="evolution at tlook_c, per dex of mass")
    c0_slope: Scalar = param(-0.959, bounds=(-1.5, -0.5), unit="dex/Gyr", doc="early evolution, constant term")
    c1_slope: Scalar = param(0.067242, bounds=(0.0, 0.5), unit="1/Gyr", doc="early evolution, per dex of mass")
    tlook_c: Scalar = param(8.44, bounds=(4.0, 12.0), unit="Gyr", doc="lookback time of the bend", free=False)
    scatter: Scalar = param(0.1, doc="width of the distribution at one mass", **_SCATTER)
    when: str = eqx.field(static=True, default="observed")
    pivot: str = eqx.field(static=True, default="fixed")

    def __check_init__(self):
        _one_of("MassMetallicity.when", self.when, ("observed", "formed"))
        _one_of("MassMetallicity.pivot", self.pivot, ("fixed", "x0"))

    @property
    def compact(self):
        return True

    def median(self, lg_mass: Float[Array, "*shape"], t: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        """Median log10(Z) of galaxies that have formed 10^lg_mass Msun by cosmic time t in Gyr."""
        pivot = self.x0 if self.pivot == "x0" else jnp.asarray(_PIVOT, self.x0.dtype)
        local = _bent_line(lg_mass, pivot, self.y0, self.x0, self.k, self.slope_lo, self.slope_hi)
        back = jnp.maximum(_T_LOCAL - t, 0.0)
        y = self.c0_y + self.c1_y * lg_mass
        early = self.c0_slope + self.c1_slope * lg_mass
        steepness = jnp.asarray(_EVOLUTION_K, self.x0.dtype)
        bend = jnp.asarray(_BEND, self.x0.dtype) if self.pivot == "fixed" else self.tlook_c
        change = _bent_line(back, bend, y, self.tlook_c, steepness, y / self.tlook_c, early)
        return np.log10(0.012) + local + jnp.minimum(change, 0.0)

    def weights(self, lgmet, lg_age, sfh, t_obs):
        mass = sfh.age_weights(lg_age, t_obs)
        if self.when == "observed":
            median = self.median(jnp.log10(jnp.maximum(mass.sum(), _LEAST_MASS)), t_obs)
            return triweight_hat_weights(lgmet, median, self.scatter)[:, None]
        # of the mass that belongs to an age, half had formed by then
        by_then = jnp.cumsum(mass[::-1])[::-1] - 0.5 * mass
        median = self.median(jnp.log10(jnp.maximum(by_then, _LEAST_MASS)), jnp.maximum(t_obs - pow10(lg_age), T_FIRST))
        return _at_each_age("hat", lgmet, median, self.scatter)


#: log10 Msun; Gyr; Gyr; 1/Gyr: constants of the relation in DSPS. Msun: the first stars are born at the metallicity of this.
_PIVOT, _T_LOCAL, _BEND, _EVOLUTION_K, _LEAST_MASS = 10.5, 12.5, 8.44, 1.6, 1e5


def _bent_line(x, x_through, y_through, x0, k, lo, hi):
    """A line through a point, whose slope goes from lo to hi about x0."""
    return y_through + (lo + (hi - lo) * jax.nn.sigmoid(k * (x - x0))) * (x - x_through)


def _rule(scheme: str) -> Any:
    return triweight_hat_weights if scheme == "hat" else _dsps.lognormal_weights


def _at_each_age(scheme, grid, median, scatter):
    """Weights (met, age) of a lognormal distribution with a median for each age."""
    return jax.vmap(_rule(scheme), in_axes=(None, 0, None), out_axes=1)(grid, median, scatter)


def _one_of(where: str, value: Any, known: tuple[str, ...]) -> None:
    if value not in known:
        raise ValueError(f"{where} must be {' or '.join(map(repr, known))}; got {value!r}.")
