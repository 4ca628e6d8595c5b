"""StarFormationHistory: one method to write, and what follows from it for every history."""

import abc

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from dspsx._model import AbstractModel, Number, Scalar, require_single
from dspsx._numerics import gauss_legendre, merge, pow10, sort_few

#: Age of the universe today in Gyr, where nothing else is given.
T_TODAY = 13.8
#: Histories are never asked for their rate before this cosmic time, Gyr (a thousand years).
T_FIRST = 1e-6
YEARS_PER_GYR = 1e9
#: Gauss-Legendre nodes per panel; tests/precision measures what these choices cost.
_ORDER_CELL, _ORDER_WINDOW, _ORDER_BREAK, _ORDER_MERGED = 3, 4, 4, 4
#: The window: the oldest age cells that the galaxy has reached, from the youngest of them on, are cut into so many panels
#: in cosmic time, finer towards the beginning, because a young universe changes in log t.
_WINDOW = (2, 3, 4, 6, 14, 20)
_CUTS = [np.append(np.logspace(0.0, -2.0, n), 0.0) if n > 5 else np.linspace(1.0, 0.0, n + 1) for n in _WINDOW]
#: With more breaks than this the panels are merged by sorting instead.
_FEW_BREAKS = 8
#: Cosmic times, as fractions of t_obs, at which merged panels are cut.
_EARLY = np.logspace(-2.0, -0.1, 24)
#: Age cells of integrals that need no SSP grid.
_LG_AGE = np.linspace(-3.5, 1.2, 95)


class StarFormationHistory(AbstractModel):
    """Star formation rate of a galaxy over cosmic time.

    Write one method, `sfr`. Masses are integrals of it by Gauss-Legendre quadrature in age, between the ages of the SSP
    grid; that is accurate to float32's rounding at every age, unlike differences of a cumulative mass.

    Hooks refine the integrals where needed: `breaks`, the times at which the rate has a kink or a step, `rate`, for
    histories that are defined relative to the time of observation, and `known_until`, for those that end.
    """

    @abc.abstractmethod
    def sfr(self, t: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        """Star formation rate in Msun/yr at cosmic times t > 0 in Gyr."""

    def breaks(self, t_obs: Scalar) -> Float[Array, " n_breaks"]:
        """Hook: cosmic times in Gyr between which `sfr` is smooth, in any order; none by default."""
        return jnp.zeros(0, t_obs.dtype)

    def rate(self, age: Float[Array, "*shape"], t_obs: Scalar) -> Float[Array, "*shape"]:
        """Hook: star formation rate in Msun/yr at a lookback time `age` before t_obs; sfr(t_obs - age) by default."""
        return self.sfr(jnp.maximum(t_obs - age, T_FIRST))

    def known_until(self) -> float | Scalar:
        """Hook: the last cosmic time in Gyr that the history knows of."""
        return float("inf")

    def age_weights(self, lg_age: Float[Array, " age"], t_obs: Scalar) -> Float[Array, " age"]:
        r"""Mass formed in Msun that belongs to each age of the SSP grid, for a galaxy observed at cosmic time t_obs.

        :math:`m_i = \int_0^{t_{obs}} SFR(t_{obs} - a) \, \phi_i(\log a) \, da`, where the hat functions :math:`\phi_i`
        interpolate the spectra linearly in log age. Stars younger than the first age count as of the first, those older
        than the last as of the last, so that the sum is the total mass formed.
        """
        return hat_age_weights(self, lg_age, t_obs)

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
        """Star formation rate in Msun/yr averaged over the last `timescale` Gyr before t_obs."""
        timescale = self._scalar(timescale)
        edges = timescale * jnp.linspace(0.0, 1.0, 9, dtype=timescale.dtype)
        _, mass, panel_start = self._mass_elements(edges[1:], self._scalar(t_obs))
        recent = jnp.where(panel_start[:, None] < timescale, mass, 0.0)
        return recent.sum() / (timescale * YEARS_PER_GYR)

    def sfr_now(self, t_obs: Number) -> Scalar:
        """Star formation rate in Msun/yr at cosmic time t_obs."""
        t_obs = self._scalar(t_obs)
        return self._checked_rate(jnp.zeros(1, t_obs.dtype), t_obs)[0]

    def _checked_rate(self, age, t_obs):
        require_single(self)
        rate = self.rate(age, t_obs)
        if jnp.shape(rate) != age.shape:
            raise ValueError(
                f"{type(self).__name__}.sfr must return one rate for each time: shape {age.shape}; got {jnp.shape(rate)}."
            )
        return rate

    def _elements(self, t_obs):
        t_obs = self._scalar(t_obs)
        return self._mass_elements(jnp.asarray(10.0**_LG_AGE, t_obs.dtype), t_obs)

    def _scalar(self, x) -> Scalar:
        return x if eqx.is_inexact_array(x) else jnp.asarray(x, dtype=float)

    def _mass_elements(self, edges, t_obs):
        """Quadrature of the history: ages (panel, node) in Gyr, masses (panel, node) in Msun, first age of each panel.

        The panels are cut at the increasing ages `edges`, at early times, at the history's own breaks, and at t_obs.
        """
        cuts = [jnp.minimum(edges, t_obs), t_obs * jnp.asarray(1.0 - _EARLY, edges.dtype)]
        cuts.append(jnp.clip(t_obs - self.breaks(t_obs), 0.0, t_obs))
        ends = jnp.sort(jnp.concatenate([jnp.zeros(1, edges.dtype), *cuts, t_obs[None]]))
        x, w = (jnp.asarray(q, edges.dtype)[None, :] for q in gauss_legendre(_ORDER_MERGED))
        start, width = ends[:-1], jnp.diff(ends)
        age = start[:, None] + width[:, None] * x
        mass = self._checked_rate(age.ravel(), t_obs).reshape(age.shape) * (width[:, None] * w) * YEARS_PER_GYR
        return age, mass, start


def hat_age_weights(sfh: StarFormationHistory, lg_age: Float[Array, " age"], t_obs: Scalar) -> Float[Array, " age"]:
    """The integrals that `StarFormationHistory.age_weights` describes.

    Everything that does not depend on the galaxy's own history has the same value for all galaxies seen at one t_obs, so
    that a batch of them computes it once: hence panels at fixed places, with corrections where the history has breaks,
    rather than one sorted list of panels for each galaxy. Arrays are laid out (node, panel): the long axis last.
    """
    breaks = sfh.breaks(t_obs)
    if breaks.size > _FEW_BREAKS:
        return _merged_age_weights(sfh, lg_age, t_obs)
    n, dtype = lg_age.size, lg_age.dtype
    ages = pow10(lg_age)
    low = jnp.concatenate([jnp.zeros(1, dtype), ages])  # cell i begins at low[i] and ends at low[i + 1]

    # panels: the cells before the window, and the window's
    first = jnp.maximum((ages < t_obs).sum(dtype=np.int32) - np.int32(len(_WINDOW) - 1), np.int32(0))
    place = first + np.arange(len(_WINDOW), dtype=np.int32)
    begins = jnp.where(place <= n, jnp.minimum(low[jnp.minimum(place, np.int32(n))], t_obs), t_obs)
    earliest = jnp.append(t_obs - begins[1:], 0.0)
    window = [
        t_obs - (earliest[i] + (t_obs - begins[i] - earliest[i]) * jnp.asarray(cuts[:-1], dtype))
        for i, cuts in enumerate(_CUTS)
    ]
    before = np.arange(n, dtype=np.int32) < first
    start = jnp.concatenate([jnp.where(before, low[:-1], begins[0]), *window])
    # where panels meet, their shares of a derivative cancel: not followed
    start = jax.lax.stop_gradient(start)
    end = jnp.append(start[1:], t_obs)
    cell = np.clip(np.arange(n, dtype=np.int32), 1, n - 1)
    window_cell = jnp.clip(jnp.concatenate([jnp.full(m, place[i], np.int32) for i, m in enumerate(_WINDOW)]), 1, n - 1)
    lg_lo, lg_hi = lg_age[cell - 1], lg_age[cell]
    lg_lo_window, lg_hi_window = lg_age[window_cell - 1], lg_age[window_cell]
    if breaks.size:
        # a panel with a break in it is left out, and done in pieces between the breaks
        at = sort_few(jnp.clip(t_obs - breaks, 0.0, t_obs))
        panel = jnp.searchsorted(start[1:], at, side="right", method="scan_unrolled").astype(np.int32)
        broken_cell = jnp.where(panel < n, panel, window_cell[jnp.maximum(panel - n, 0)])
        broken_cell = jnp.clip(broken_cell, 1, n - 1)
        lo, hi = lg_age[broken_cell - 1], lg_age[broken_cell]
        panel_start, panel_end = (jax.lax.stop_gradient(x)[panel] for x in (start, end))
        same = panel[1:] == panel[:-1]
        piece_start = jnp.append(panel_start[:1], jnp.where(same, at[:-1], panel_start[1:]))
        piece_end = jnp.append(jnp.where(same, at[:-1], panel_end[:-1]), panel_end[-1:])

    def rates(begin, width, order):
        """Ages, rates and the quadrature's weights in years, at (node, panel) in one row."""
        x, weight = gauss_legendre(order)
        begin, width = jnp.tile(begin, order), jnp.tile(width, order)
        age = begin + width * jnp.asarray(np.repeat(x, begin.size // order), dtype)
        weight = width * jnp.asarray(np.repeat(weight, begin.size // order) * YEARS_PER_GYR, dtype)
        return age, sfh._checked_rate(age, t_obs), weight

    def fractions(age, lo, hi):
        lo, hi = (jnp.tile(x, age.size // lo.size) for x in (lo, hi))
        return jnp.clip((jnp.log10(jnp.maximum(age, T_FIRST)) - lo) / (hi - lo), 0.0, 1.0)

    def unbroken(rate, panels):
        for i in range(breaks.size):
            rate = jnp.where(panels == panel[i], 0.0, rate)
        return rate

    def totals(mass, older, cells):
        """Mass that belongs to the younger and to the older age of each cell."""
        collect = np.tile(np.repeat(np.eye(len(cells)), cells, axis=0), (mass.size // sum(cells), 1))
        return _matmul(mass * (1.0 - older), collect), _matmul(mass * older, collect)

    # the cells' nodes are at the same ages for every galaxy, also for those that are too young to have them
    age, rate, weight = rates(low[:-1], ages - low[:-1], _ORDER_CELL)
    older = (weight * fractions(age, lg_lo, lg_hi))[:, None]
    younger = weight[:, None] - older
    panels = np.tile(np.arange(n, dtype=np.int32), _ORDER_CELL)
    grid, inner = np.arange(n)[None, :], np.tile(cell, _ORDER_CELL)[:, None]
    hats = jnp.where(grid == inner, older, 0.0) + jnp.where(grid == inner - 1, younger, 0.0)
    weights = _matmul(unbroken(jnp.where(panels < first, rate, 0.0), panels), hats)

    age, rate, weight = rates(start[n:], end[n:] - start[n:], _ORDER_WINDOW)
    panels = np.tile(np.arange(n, n + sum(_WINDOW), dtype=np.int32), _ORDER_WINDOW)
    older = fractions(age, lg_lo_window, lg_hi_window)
    found = [(place, *totals(unbroken(rate, panels) * weight, older, _WINDOW))]
    if breaks.size:
        begin, width = jnp.concatenate([piece_start, at]), jnp.concatenate([at - piece_start, piece_end - at])
        age, rate, weight = rates(begin, width, _ORDER_BREAK)
        older = fractions(age, lo, hi)
        found.append((broken_cell, *totals(rate * weight, older, (1,) * breaks.size)))
    index = np.arange(n, dtype=np.int32)
    for cell, young, old in found:
        cell = jnp.clip(cell, 1, n - 1)
        for i in range(cell.size):
            weights = weights + jnp.where(index == cell[i] - 1, young[i], 0.0) + jnp.where(index == cell[i], old[i], 0.0)
    return weights


def _matmul(x, matrix):
    return jnp.matmul(x, jnp.asarray(matrix, x.dtype), precision=jax.lax.Precision.HIGHEST)


def _merged_age_weights(sfh: StarFormationHistory, lg_age: Float[Array, " age"], t_obs: Scalar) -> Float[Array, " age"]:
    """As `hat_age_weights`, for any number of breaks."""
    ages = pow10(lg_age)
    age, mass, panel_start = sfh._mass_elements(ages, t_obs)
    # the cell of a panel: between which two ages of the grid it lies, 0 before the first and n_age after the last
    cell = (ages[None, :] <= panel_start[:, None]).sum(-1)
    inner = jnp.clip(cell, 1, lg_age.size - 1)
    lo, hi = lg_age[inner - 1][:, None], lg_age[inner][:, None]
    fraction = jnp.clip((jnp.log10(jnp.maximum(age, T_FIRST)) - lo) / (hi - lo), 0.0, 1.0)
    older = (mass * fraction).sum(-1)
    younger = mass.sum(-1) - older
    weights = jnp.zeros(lg_age.shape, mass.dtype)
    return weights.at[inner].add(older).at[inner - 1].add(younger)
