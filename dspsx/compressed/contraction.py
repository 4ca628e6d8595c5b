"""The contraction of a BandTable with many galaxies, each at a redshift of its own.

Galaxies are put in order of redshift. Those that share a segment, and then those that share a step, are contracted with its
matrix some at a time: matrix products of full width, however the galaxies are spread. What is large stays within these.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.custom_batching import custom_vmap
from jaxtyping import Array, Float, Int

from dspsx._numerics import matmul, total

#: Galaxies that are contracted together with the matrix of a segment, and of a step.
_IN_SEGMENT, _IN_STEP = 256, 64


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def table_light(
    ranks: tuple[int, ...], place: Any, metallicity: Array, mass: Array, hermite: Array, tables: Any
) -> Array:
    """Light (row, node) of stars with masses (row, age) in each of the metallicities (met,).

    **Arguments:** `ranks`, the factors of each group of bands; `place`, a number that grows with redshift, segment, and step
    (group,); `hermite`, the shares of the four corners of a step (4, group); `tables`, basis and table.
    """
    return _table_light(ranks, place, metallicity, mass, hermite, tables)[0]


def _table_light(ranks, place, metallicity, mass, hermite, tables):
    return _collapsed(_forward, ranks)((*place, metallicity, mass, hermite), tables)


def _table_light_forward(ranks, place, metallicity, mass, hermite, tables):
    light, corners = _table_light(ranks, place, metallicity, mass, hermite, tables)
    return light, (place, metallicity, mass, hermite, corners, tables)


def _table_light_backward(ranks, saved, g):
    place, *values, tables = saved
    return (None, None, None), *_collapsed(_backward, ranks)((*place, *values, g), tables), (None, None)


table_light.defvjp(_table_light_forward, _table_light_backward)


@functools.cache
def _collapsed(function: Any, ranks: tuple[int, ...]):
    """A function of arrays with one leading axis, put in order of the first, which it does not get, as one of single elements
    whose vmaps, nested or not, become that axis."""

    @custom_vmap
    def many(args, tables):
        if len(args[0]) == 0:
            one = [jnp.zeros((1, *x.shape[1:]), x.dtype) for x in args[1:]]
            found = jax.eval_shape(lambda: function(ranks, *one, *tables))
            return jax.tree.map(lambda x: jnp.zeros((0, *x.shape[1:]), x.dtype), found)
        order = jnp.argsort(args[0])
        found = function(ranks, *(x[order] for x in args[1:]), *tables)
        back = jnp.zeros_like(order).at[order].set(jnp.arange(order.size, dtype=order.dtype), unique_indices=True)
        return jax.tree.map(lambda x: x[back], found)

    @many.def_vmap
    def _(size, in_batched, args, tables):
        if any(jax.tree.leaves(in_batched[1])):
            raise NotImplementedError(
                "a BandTable is data, which a batch of galaxies shares: map over parameters only."
            )
        inner = args[0].shape[in_batched[0][0]]
        args = [
            (x if batched else jnp.broadcast_to(x, (size, *x.shape))).reshape(size * inner, *x.shape[batched + 1 :])
            for x, batched in zip(args, in_batched[0], strict=True)
        ]
        found = jax.tree.map(lambda x: x.reshape(size, inner, *x.shape[1:]), many(args, tables))
        return found, jax.tree.map(lambda _: True, found)

    @jax.custom_jvp
    def single(args, tables):
        return jax.tree.map(lambda x: x[0], many([x[None] for x in args], tables))

    @single.defjvp
    def _(primals, tangents):
        raise TypeError(
            "a galaxy compressed for a range of redshifts has first derivatives only, in reverse mode (grad, jacrev); for second "
            "ones use the full galaxy, or one compressed at one redshift."
        )

    return single


def _forward(ranks, segment, step, metallicity, mass, hermite, basis, table):
    """Light (galaxy, row, node), and the values at the corners (galaxy, row, 4 x node) that the derivative needs."""
    galaxies, rows, _ = mass.shape
    each = lambda x: jnp.repeat(x, rows, axis=0)  # noqa: E731
    stars = (each(metallicity), mass.reshape(galaxies * rows, -1))
    factors = _by_index(each(segment), basis, _to_factors, stars, _IN_SEGMENT)
    light, corners = [], []
    for i, part in enumerate(_split(factors, ranks)):
        found = _by_index(each(step[:, i]), table[i], _to_corners, (part,), _IN_STEP)
        shares = each(hermite[:, :, i])
        light.append(total(shares[:, k, None] * corner for k, corner in enumerate(jnp.split(found, 4, axis=-1))))
        corners.append(found)
    light, corners = (jnp.concatenate(x, axis=-1).reshape(galaxies, rows, -1) for x in (light, corners))
    return light, corners


def _backward(ranks, segment, step, metallicity, mass, hermite, corners, g, basis, table):
    """Derivatives with respect to metallicity, mass and hermite, of light whose derivative is g (galaxy, row, node)."""
    galaxies, rows, n_age = mass.shape
    each = lambda x: jnp.repeat(x, rows, axis=0)  # noqa: E731
    nodes = [x.shape[1] // (4 * k) for x, k in zip(table, ranks, strict=True)]
    d_hermite, d_factors = [], []
    for i, (found, d_light) in enumerate(zip(_split(corners, [4 * n for n in nodes]), _split(g, nodes), strict=True)):
        d_hermite.append(jnp.stack([(c * d_light).sum((1, 2)) for c in jnp.split(found, 4, axis=-1)], axis=1))
        d_light, shares = d_light.reshape(galaxies * rows, -1), each(hermite[:, :, i])
        d_corners = jnp.concatenate([shares[:, k, None] * d_light for k in range(4)], axis=-1)
        d_factors.append(_by_index(each(step[:, i]), table[i], _from_corners, (d_corners,), _IN_STEP))
    args = (jnp.concatenate(d_factors, axis=-1), each(metallicity), mass.reshape(galaxies * rows, n_age))
    found = _by_index(each(segment), basis, _from_factors, args, _IN_SEGMENT)
    d_met, d_mass = (x.reshape(galaxies, rows, -1) for x in jnp.split(found, [metallicity.shape[1]], axis=-1))
    return d_met.sum(1), d_mass, jnp.stack(d_hermite, axis=-1)


def _split(x, sizes):
    """Parts of the given sizes along the last axis."""
    return jnp.split(x, np.cumsum(sizes)[:-1], axis=-1)


def _by_index(
    index: Int[Array, " row"], table: Any, function: Callable, args: tuple[Array, ...], together: int
) -> Float[Array, "row out"]:
    """`function(table[i], *args)` of the rows of `args` whose index is i, for indices that never fall."""
    n = len(index)
    together = min(together, n)
    # as many rows at a time, also at the end: what is written too much there is not kept, elsewhere the next overwrites it
    args = tuple(jnp.pad(x, [(0, together), (0, 0)]) for x in args)
    like = jax.eval_shape(function, table[0], *(x[:together] for x in args))

    def one_index(state):
        row, found = state
        i = index[row]
        matrix, end = table[i], (index <= i).sum(dtype=np.int32)

        def some(state):
            row, found = state
            here = function(matrix, *(jax.lax.dynamic_slice_in_dim(x, row, together) for x in args))
            return row + together, jax.lax.dynamic_update_slice_in_dim(found, here, row, 0)

        _, found = jax.lax.while_loop(lambda state: state[0] < end, some, (row, found))
        return jnp.maximum(end, row + 1), found  # an index that falls must not hold up the loop

    start = np.int32(0), jnp.zeros((n + together, like.shape[1]), like.dtype)
    return jax.lax.while_loop(lambda state: state[0] < n, one_index, start)[1][:n]


def _to_factors(matrix, metallicity, mass):
    """From metallicities (row, met) and masses (row, age) to factors (row, K of all groups)."""
    return matmul((metallicity[:, :, None] * mass[:, None, :]).reshape(len(mass), -1), matrix)


def _from_factors(matrix, d_factors, metallicity, mass):
    """The derivatives with respect to metallicity and mass, side by side."""
    d_stars = _matmul_transposed(d_factors, matrix).reshape(len(mass), metallicity.shape[1], -1)
    precise = jax.lax.Precision.HIGHEST
    d_met = jnp.einsum("rma,ra->rm", d_stars, mass, precision=precise)
    d_mass = jnp.einsum("rma,rm->ra", d_stars, metallicity, precision=precise)
    return jnp.concatenate([d_met, d_mass], axis=-1)


def _to_corners(row, factors):
    """From factors (row, K) to corners (row, 4 x node of the group's bands)."""
    return matmul(factors, row.reshape(factors.shape[1], -1))


def _from_corners(row, corners):
    """The transpose of `_to_corners`."""
    return _matmul_transposed(corners, row.reshape(-1, corners.shape[1]))


def _matmul_transposed(g, matrix):
    return jax.lax.dot_general(g, matrix, (((1,), (1,)), ((), ())), precision=jax.lax.Precision.HIGHEST)
