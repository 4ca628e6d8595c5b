"""Integrals of a star formation history against the ages of an SSP grid."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from dspsx._model import Scalar
from dspsx._numerics import LN10, count_below, gauss_legendre, matmul, pow10, sort_few, total, within

#: Histories are never asked for their rate before this cosmic time, Gyr (a thousand years).
T_FIRST = 1e-6
YEARS_PER_GYR = 1e9
#: Gauss-Legendre nodes in a panel of the window, a piece between breaks, and a merged panel; tests/precision measures what
#: these choices cost.
_ORDER_WINDOW, _ORDER_PIECE, _ORDER_MERGED = 3, 4, 4
#: The same in the younger age cells of the grid, three of five, and in the older ones. A fine grid begins with cells in which no
#: rate changes much that has no break there; a coarse one has the last order everywhere.
_ORDERS_CELL, _YOUNG, _FINE_GRID = (2, 3), 0.6, 60
#: The window: the six oldest age cells that the galaxy has reached are cut into so many panels, the oldest ones at steps
#: of log t, because a young universe changes in log t.
_WINDOW = (1, 2, 3, 5, 14, 18)
_CUTS = [np.append(np.logspace(0.0, -2.0, n), 0.0) if n > 5 else np.linspace(1.0, 0.0, n + 1) for n in _WINDOW]
#: With more breaks than this the panels are merged by sorting instead.
_FEW_BREAKS = 8
#: Cosmic times, as fractions of t_obs, at which merged panels are cut.
_EARLY = np.concatenate([np.logspace(-5.0, -2.0, 12, endpoint=False), np.logspace(-2.0, -0.1, 24)])


def merged_panels(sfh: Any, edges: Float[Array, " edge"], t_obs: Scalar) -> tuple[Any, Any, Any]:
    """Quadrature of a history: ages (panel, node) in Gyr, masses (panel, node) in Msun, first age of each panel.

    The panels are cut at the increasing ages `edges`, at early times, at the history's own breaks, and at t_obs.
    """
    cuts = [jnp.zeros(1, edges.dtype), jnp.minimum(edges, t_obs), t_obs * jnp.asarray(1.0 - _EARLY, edges.dtype)]
    breaks = jnp.clip(sfh.break_ages(t_obs), 0.0, t_obs)
    ends = jnp.concatenate([*cuts, t_obs[None], breaks])
    order = jnp.argsort(ends)
    ends, is_break = ends[order], order >= ends.size - breaks.size
    x, w = (jnp.asarray(q, edges.dtype)[None, :] for q in gauss_legendre(_ORDER_MERGED))
    start, width = ends[:-1], jnp.diff(ends)
    age = start[:, None] + width[:, None] * x
    age = jnp.where(is_break[:-1, None], _after(age, start[:, None]), age)
    age = jnp.where(is_break[1:, None], _before(age, ends[1:, None]), age)
    mass = sfh.checked_rate(age.ravel(), t_obs).reshape(age.shape) * (width[:, None] * w) * YEARS_PER_GYR
    return age, mass, start


# A piece that ends at a step of the rate may have no width; its derivative is the rate on its own side, all the same.


def _before(age: Any, step: Any) -> Any:
    return jnp.minimum(age, step * (1.0 - 4.0 * jnp.finfo(step.dtype).eps))


def _after(age: Any, step: Any) -> Any:
    return jnp.maximum(age, step * (1.0 + 4.0 * jnp.finfo(step.dtype).eps))


def hat_age_weights(sfh: Any, lg_age: Float[Array, " age"], t_obs: Scalar) -> Float[Array, " age"]:
    """The integrals that `StarFormationHistory.age_weights` describes.

    Everything that does not depend on the galaxy's own history has the same value for all galaxies seen at one t_obs, so
    that a batch of them computes it once: hence panels at fixed places, with corrections where the history has breaks,
    rather than one sorted list of panels for each galaxy. Sums are matrix products with constant matrices: the compiler
    fuses all else into loops over long rows, and repeats in every use what it fuses.
    """
    breaks = sfh.break_ages(t_obs)
    if breaks.size > _FEW_BREAKS:
        return _merged_age_weights(sfh, lg_age, t_obs)
    n, dtype = lg_age.size, lg_age.dtype
    # where panels meet, their shares of a derivative cancel: neither the ends of cells nor those of panels are followed
    ages = jax.lax.stop_gradient(pow10(lg_age))
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
    start = jax.lax.stop_gradient(start)
    # panels beyond t_obs have no width, but the end of the last one moves with t_obs: they count as of the cell of t_obs
    place = jnp.clip(jnp.minimum(place, reached), 1, n - 1)
    cell = np.clip(np.arange(n, dtype=np.int32), 1, n - 1)
    window_cell = jnp.concatenate([jnp.full(m, place[i], np.int32) for i, m in enumerate(_WINDOW)])
    lg_lo, lg_hi = lg_age[cell - 1], lg_age[cell]
    rules = _rules(n)

    def nodes(begin, width, order):
        """Ages and the quadrature's weights in years, at (node, panel) in one row."""
        x, weight = gauss_legendre(order)
        begin, width = jnp.tile(begin, order), jnp.tile(width, order)
        age = begin + width * jnp.asarray(np.repeat(x, begin.size // order), dtype)
        return age, width * jnp.asarray(np.repeat(weight, begin.size // order) * YEARS_PER_GYR, dtype)

    def fractions(age, lo, hi):
        lo, hi = (jnp.tile(x, age.size // lo.size) for x in (lo, hi))
        return within((jnp.log10(jnp.where(age < T_FIRST, T_FIRST, age)) - lo) / (hi - lo), 0.0, 1.0)

    # the nodes of the cells are at the same ages for every galaxy, also for those that are too young to have them
    hats, found = [], []
    for order, panels in rules:
        lo, hi = low[panels], ages[panels]
        age, weight = nodes(lo, hi - lo, order)
        # moved so that their mean over a cell is exact: a steady rate has no error
        share = fractions(age, lg_lo[panels], lg_hi[panels])
        mean = (weight * share).reshape(order, -1).sum(0) / ((hi - lo) * YEARS_PER_GYR)
        exact = jnp.where(lo > 0.0, _mean_in_log(LN10 * (lg_hi[panels] - lg_lo[panels])), 0.0)
        share += jax.lax.stop_gradient(jnp.tile(exact - mean, order))
        older = weight * share
        inner = np.tile(np.clip(panels, 1, n - 1), order)[:, None]
        here = np.arange(inner.min() - 1, inner.max() + 1)
        hat = jnp.where(here == inner, older[:, None], 0.0)
        hats.append((here, hat + jnp.where(here == inner - 1, (weight - older)[:, None], 0.0)))
        found.append((age, np.tile(panels, order)))
    # of the window the last panel alone ends at t_obs, and changes with it
    fixed = nodes(start[n:-1], start[n + 1 :] - start[n:-1], _ORDER_WINDOW)
    moving = nodes(start[-1:], t_obs - start[-1:], _ORDER_WINDOW)
    age, weight = (jnp.concatenate(x) for x in zip(fixed, moving, strict=True))
    lg_lo_window, lg_hi_window = lg_age[window_cell - 1], lg_age[window_cell]
    older = fractions(fixed[0], lg_lo_window[:-1], lg_hi_window[:-1])
    older = jnp.append(older, fractions(moving[0], lg_lo_window[-1:], lg_hi_window[-1:]))
    panels = np.concatenate([panels for _, panels in found])
    counts = panels < first
    if breaks.size:
        # a panel with a break in it does not count, and is done in pieces between the breaks
        at = sort_few(jnp.clip(breaks, 0.0, t_obs))
        panel = count_below(start[1:], at)
        whole = (np.arange(start.size, dtype=np.int32)[:, None] != panel[None, :]).all(1)
        counts &= jnp.concatenate([jnp.tile(whole[p[0] : p[-1] + 1], order) for order, p in rules])
    # all in one call: in the transpose of each there is a sum for every parameter
    rates = sfh.checked_rate(jnp.concatenate([*(x for x, _ in found), age]), t_obs)
    of_cells, of_window = jnp.split(rates, [panels.size])
    of_cells = jnp.where(counts, of_cells, 0.0)
    of_window = of_window * weight
    if breaks.size:
        parts = (jnp.tile(whole[part], _ORDER_WINDOW) for part in (slice(n, -1), slice(-1, None)))
        of_window = jnp.where(jnp.concatenate(list(parts)), of_window, 0.0)
    masses = _shares(of_window, older, _collect_window())
    cells = [place]
    if breaks.size:
        broken_cell = jnp.where(panel < n, jnp.clip(panel, 1, n - 1), window_cell[jnp.maximum(panel - n, 0)])
        lo, hi = lg_age[broken_cell - 1], lg_age[broken_cell]
        # the end of the last panel follows t_obs here as it does above, where the panel was counted
        last = start.size - 1
        begin, stop = start[panel], jnp.where(panel == last, t_obs, start[jnp.minimum(panel + 1, last)])
        same = panel[1:] == panel[:-1]
        piece_begin = jnp.append(begin[:1], jnp.where(same, at[:-1], begin[1:]))
        piece_stop = jnp.append(jnp.where(same, at[:-1], stop[:-1]), stop[-1:])
        x, w = (jnp.asarray(q, dtype)[:, None] for q in gauss_legendre(_ORDER_PIECE))
        age, weight = [], []
        for a, b, own_side in ((piece_begin, at, _before), (at, piece_stop, _after)):
            age.append(own_side(a[None] + (b - a)[None] * x, at[None]).ravel())
            weight.append(((b - a)[None] * (w * YEARS_PER_GYR)).ravel())
        age, weight = jnp.concatenate(age), jnp.concatenate(weight)
        collect = np.tile(np.eye(at.size), (2 * _ORDER_PIECE, 1))
        masses += _shares(sfh.checked_rate(age, t_obs) * weight, fractions(age, lo, hi), collect)
        cells.append(broken_cell)
    where = jnp.concatenate([x for cell in cells for x in (cell - 1, cell)])
    rest = jnp.zeros(n, dtype).at[where].add(jnp.concatenate(masses), mode="promise_in_bounds")
    # the cells of each order have a matrix of their own, since what they give to the ages of the others is nothing
    of_cells = jnp.split(of_cells, np.cumsum([len(hat) for _, hat in hats])[:-1])
    return rest + total(
        jnp.pad(matmul(part, hat), (here[0], n - 1 - here[-1]))
        for part, (here, hat) in zip(of_cells, hats, strict=True)
    )


def _mean_in_log(width):
    """Mean over x, between two ends, of what rises from 0 to 1 linearly in ln x: 1 / (1 - e^-d) - 1 / d for ends whose ln x are
    d apart, without the rounding of that difference."""
    small = width < 0.5
    d = jnp.where(small, 1.0, width)
    square = width**2
    series = 1.0 - square / 60.0 * (1.0 - square / 42.0 * (1.0 - square / 40.0 * (1.0 - square / 39.6)))
    return jnp.where(small, 0.5 + width / 12.0 * series, -1.0 / jnp.expm1(-d) - 1.0 / d)


def _shares(mass, older, collect):
    """Mass that belongs to the younger and to the older age of each cell: of masses in one row, the shares of the older one, and
    the matrix that collects those of a cell."""
    return [matmul(mass * (1.0 - older), collect), matmul(mass * older, collect)]


@functools.cache
def _collect_window() -> np.ndarray:
    """Which cell of the window each of its nodes is in: the nodes of all panels but the last, and those of the last."""
    cells = np.repeat(np.eye(len(_WINDOW)), _WINDOW, axis=0)
    return np.concatenate([np.tile(part, (_ORDER_WINDOW, 1)) for part in (cells[:-1], cells[-1:])])


@functools.cache
def _rules(n: int) -> list[tuple[int, np.ndarray]]:
    """Order of the quadrature, and the cells of a grid of n ages that have it; the last ones are in every galaxy's window."""
    last = max(1, n + 1 - len(_WINDOW))
    ends, orders = ([0, round(_YOUNG * n), last], _ORDERS_CELL) if n >= _FINE_GRID else ([0, last], _ORDERS_CELL[-1:])
    return [(order, np.arange(*ends[i : i + 2], dtype=np.int32)) for i, order in enumerate(orders)]


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
