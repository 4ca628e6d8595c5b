"""Integrals of a star formation history against the ages of an SSP grid."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from dspsx._model import Scalar
from dspsx._numerics import gauss_legendre, matmul, pow10, sort_few

#: Histories are never asked for their rate before this cosmic time, Gyr (a thousand years).
T_FIRST = 1e-6
YEARS_PER_GYR = 1e9
#: Gauss-Legendre nodes in an age cell, a panel of the window, a piece between breaks, and a merged panel;
#: tests/precision measures what these choices cost.
_ORDER_CELL, _ORDER_WINDOW, _ORDER_PIECE, _ORDER_MERGED = 3, 4, 4, 4
#: The window: the six oldest age cells that the galaxy has reached are cut into so many panels, the oldest ones at steps
#: of log t, because a young universe changes in log t.
_WINDOW = (2, 2, 3, 5, 16, 22)
_CUTS = [np.append(np.logspace(0.0, -2.0, n), 0.0) if n > 5 else np.linspace(1.0, 0.0, n + 1) for n in _WINDOW]
#: With more breaks than this the panels are merged by sorting instead.
_FEW_BREAKS = 8
#: Cosmic times, as fractions of t_obs, at which merged panels are cut.
_EARLY = np.logspace(-2.0, -0.1, 24)


def merged_panels(sfh: Any, edges: Float[Array, " edge"], t_obs: Scalar) -> tuple[Any, Any, Any]:
    """Quadrature of a history: ages (panel, node) in Gyr, masses (panel, node) in Msun, first age of each panel.

    The panels are cut at the increasing ages `edges`, at early times, at the history's own breaks, and at t_obs.
    """
    cuts = [jnp.minimum(edges, t_obs), t_obs * jnp.asarray(1.0 - _EARLY, edges.dtype)]
    cuts.append(jnp.clip(t_obs - sfh.breaks(t_obs), 0.0, t_obs))
    ends = jnp.sort(jnp.concatenate([jnp.zeros(1, edges.dtype), *cuts, t_obs[None]]))
    x, w = (jnp.asarray(q, edges.dtype)[None, :] for q in gauss_legendre(_ORDER_MERGED))
    start, width = ends[:-1], jnp.diff(ends)
    age = start[:, None] + width[:, None] * x
    mass = sfh.checked_rate(age.ravel(), t_obs).reshape(age.shape) * (width[:, None] * w) * YEARS_PER_GYR
    return age, mass, start


def hat_age_weights(sfh: Any, lg_age: Float[Array, " age"], t_obs: Scalar) -> Float[Array, " age"]:
    """The integrals that `StarFormationHistory.age_weights` describes.

    Everything that does not depend on the galaxy's own history has the same value for all galaxies seen at one t_obs, so
    that a batch of them computes it once: hence panels at fixed places, with corrections where the history has breaks,
    rather than one sorted list of panels for each galaxy. Sums are matrix products with constant matrices: the compiler
    fuses all else into loops over long rows, and repeats in every use what it fuses.
    """
    breaks = sfh.breaks(t_obs)
    if breaks.size > _FEW_BREAKS:
        return _merged_age_weights(sfh, lg_age, t_obs)
    n, dtype = lg_age.size, lg_age.dtype
    ages = pow10(lg_age)
    low = jnp.concatenate([jnp.zeros(1, dtype), ages])  # cell i begins at low[i] and ends at low[i + 1]

    # panels: the cells before the window, and the window's
    reached = (ages < t_obs).sum(dtype=np.int32)
    first = jnp.maximum(reached - np.int32(len(_WINDOW) - 1), np.int32(0))
    place = first + np.arange(len(_WINDOW), dtype=np.int32)
    begins = jnp.where(place <= n, jnp.minimum(low[jnp.minimum(place, np.int32(n))], t_obs), t_obs)
    earliest = jnp.append(t_obs - begins[1:], 0.0)
    window = [
        t_obs - (earliest[i] + (t_obs - begins[i] - earliest[i]) * jnp.asarray(cuts[:-1], dtype))
        for i, cuts in enumerate(_CUTS)
    ]
    start = jnp.concatenate([jnp.where(np.arange(n, dtype=np.int32) < first, low[:-1], begins[0]), *window])
    # where panels meet, their shares of a derivative cancel: not followed
    start = jax.lax.stop_gradient(start)
    end = jnp.append(start[1:], t_obs)
    cell = np.clip(np.arange(n, dtype=np.int32), 1, n - 1)
    # panels beyond t_obs have no width, but the end of the last one moves with t_obs: they count as of the cell of t_obs
    place = jnp.clip(jnp.minimum(place, reached), 1, n - 1)
    window_cell = jnp.concatenate([jnp.full(m, place[i], np.int32) for i, m in enumerate(_WINDOW)])
    lg_lo, lg_hi = lg_age[cell - 1], lg_age[cell]
    lg_lo_window, lg_hi_window = lg_age[window_cell - 1], lg_age[window_cell]
    pieces, panel = None, jnp.zeros(0, np.int32)
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
        begin, width = jnp.concatenate([piece_start, at]), jnp.concatenate([at - piece_start, piece_end - at])
        pieces = broken_cell, lo, hi, begin, width

    def nodes(begin, width, order):
        """Ages and the quadrature's weights in years, at (node, panel) in one row."""
        x, weight = gauss_legendre(order)
        begin, width = jnp.tile(begin, order), jnp.tile(width, order)
        age = begin + width * jnp.asarray(np.repeat(x, begin.size // order), dtype)
        return age, width * jnp.asarray(np.repeat(weight, begin.size // order) * YEARS_PER_GYR, dtype)

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
        return [matmul(mass * (1.0 - older), collect), matmul(mass * older, collect)]

    # the cells' nodes are at the same ages for every galaxy, also for those that are too young to have them
    parts = [nodes(low[:-1], ages - low[:-1], _ORDER_CELL), nodes(start[n:], end[n:] - start[n:], _ORDER_WINDOW)]
    if pieces is not None:
        parts.append(nodes(*pieces[3:], _ORDER_PIECE))
    # shared nodes in one call: in the transpose of each call there is a sum for every parameter
    shared = sfh.checked_rate(jnp.concatenate([age for age, _ in parts[:2]]), t_obs)
    rates = [*jnp.split(shared, [parts[0][0].size]), *(sfh.checked_rate(age, t_obs) for age, _ in parts[2:])]

    age, weight = parts[0]
    older = (weight * fractions(age, lg_lo, lg_hi))[:, None]
    younger = weight[:, None] - older
    panels = np.tile(np.arange(n, dtype=np.int32), _ORDER_CELL)
    grid, inner = np.arange(n)[None, :], np.tile(cell, _ORDER_CELL)[:, None]
    hats = jnp.where(grid == inner, older, 0.0) + jnp.where(grid == inner - 1, younger, 0.0)
    of_cells = unbroken(jnp.where(panels < first, rates[0], 0.0), panels)

    age, weight = parts[1]
    panels = np.tile(np.arange(n, n + sum(_WINDOW), dtype=np.int32), _ORDER_WINDOW)
    masses = totals(unbroken(rates[1], panels) * weight, fractions(age, lg_lo_window, lg_hi_window), _WINDOW)
    cells = [place]
    if pieces is not None:
        age, weight = parts[2]
        masses += totals(rates[2] * weight, fractions(age, *pieces[1:3]), (1,) * breaks.size)
        cells.append(pieces[0])
    where = jnp.concatenate([x for cell in cells for x in (cell - 1, cell)])
    return matmul(of_cells, hats) + _placed(n, jnp.concatenate(masses), where)


@functools.partial(jax.custom_jvp, nondiff_argnums=(0,))
def _placed(n, values, index):
    """An array of length n, with each of a handful of values added at its index."""
    everywhere = np.arange(n, dtype=np.int32)
    return sum(jnp.where(everywhere == index[i], values[i], 0.0) for i in range(values.size))


@_placed.defjvp
def _(n, primals, tangents):
    # the sums of `where` vectorise, but not their transposes; the transpose of this is to look the values up
    values, index = primals
    change = jnp.zeros(n, values.dtype).at[index].add(tangents[0], mode="promise_in_bounds")
    return _placed(n, values, index), change


def _merged_age_weights(sfh: Any, lg_age: Float[Array, " age"], t_obs: Scalar) -> Float[Array, " age"]:
    """As `hat_age_weights`, for any number of breaks."""
    ages = pow10(lg_age)
    age, mass, panel_start = merged_panels(sfh, ages, t_obs)
    # the cell of a panel: between which two ages of the grid it lies, 0 before the first and n_age after the last
    cell = (ages[None, :] <= panel_start[:, None]).sum(-1)
    inner = jnp.clip(cell, 1, lg_age.size - 1)
    lo, hi = lg_age[inner - 1][:, None], lg_age[inner][:, None]
    fraction = jnp.clip((jnp.log10(jnp.maximum(age, T_FIRST)) - lo) / (hi - lo), 0.0, 1.0)
    older = (mass * fraction).sum(-1)
    younger = mass.sum(-1) - older
    weights = jnp.zeros(lg_age.shape, mass.dtype)
    return weights.at[inner].add(older).at[inner - 1].add(younger)
