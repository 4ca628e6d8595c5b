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
_IN_SEGMENT, _IN_STEP = (256, 32), (64, 8)


@jax.custom_vjp
def table_light(place: Any, metallicity: Array, mass: Array, x: Array, tables: Any) -> Array:
    """Light (row, node) of stars with masses (row, age) in each of the metallicities (met,).

    **Arguments:** `place`, a number that grows with redshift, segment, and step (group,); `x`, the fraction of a step (group,);
    `tables`, basis and table, as in `BandTable`.
    """
    return _collapsed(_forward)((*place, metallicity, mass, x), tables)[0]


def _table_light_forward(place, metallicity, mass, x, tables):
    light, factors = _collapsed(_forward)((*place, metallicity, mass, x), tables)
    return light, (place, metallicity, mass, x, factors, tables)


def _table_light_backward(saved, g):
    place, *values, tables = saved
    return (None, None, None), *_collapsed(_backward)((*place, *values, g), tables), (None, None)


table_light.defvjp(_table_light_forward, _table_light_backward)


@functools.cache
def _collapsed(function: Any):
    """A function of arrays with one leading axis, put in order of the first, which it does not get, as one of single elements
    whose vmaps, nested or not, become that axis."""

    @custom_vmap
    def many(args, tables):
        if len(args[0]) == 0:
            one = [jnp.zeros((1, *x.shape[1:]), x.dtype) for x in args[1:]]
            found = jax.eval_shape(lambda: function(*one, *tables))
            return jax.tree.map(lambda x: jnp.zeros((0, *x.shape[1:]), x.dtype), found)
        order = jnp.argsort(args[0])
        found = function(*(x[order] for x in args[1:]), *tables)
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


def _forward(segment, step, metallicity, mass, x, basis, table):
    """Light (galaxy, row, node), and the factors (galaxy, row, K of all groups) that it is made of."""
    galaxies, rows, _ = mass.shape
    each = lambda x: jnp.repeat(x, rows, axis=0)  # noqa: E731
    stars = (each(metallicity), mass.reshape(galaxies * rows, -1))
    of_stars = functools.partial(_to_factors, metallicity.shape[1])
    factors = _by_index(each(segment), basis.__getitem__, of_stars, stars, _IN_SEGMENT)
    light = [
        _by_index(each(step[:, i]), _of_step(basis, table[i]), _to_light, (part, each(x[:, i, None])), _IN_STEP)
        for i, part in enumerate(_split(factors, _n_factors(table)))
    ]
    return tuple(x.reshape(galaxies, rows, -1) for x in (jnp.concatenate(light, axis=-1), factors))


def _backward(segment, step, metallicity, mass, x, factors, g, basis, table):
    """Derivatives with respect to metallicity, mass and x, of light whose derivative is g (galaxy, row, node)."""
    galaxies, rows, n_age = mass.shape
    each = lambda x: jnp.repeat(x, rows, axis=0)  # noqa: E731
    factors, g = (x.reshape(galaxies * rows, -1) for x in (factors, g))
    parts = zip(_split(factors, _n_factors(table)), _split(g, [part.shape[2] for part in table]), strict=True)
    d_factors, d_x = [], []
    for i, (part, d_light) in enumerate(parts):
        args = (d_light, part, each(x[:, i, None]))
        found = _by_index(each(step[:, i]), _of_step(basis, table[i]), _from_light, args, _IN_STEP)
        d_factors.append(found[:, :-1])
        d_x.append(found[:, -1].reshape(galaxies, rows).sum(1))
    args = (jnp.concatenate(d_factors, axis=-1), each(metallicity), mass.reshape(galaxies * rows, n_age))
    to_stars = functools.partial(_from_factors, metallicity.shape[1])
    found = _by_index(each(segment), basis.__getitem__, to_stars, args, _IN_SEGMENT)
    d_met, d_mass = (x.reshape(galaxies, rows, -1) for x in jnp.split(found, [metallicity.shape[1]], axis=-1))
    return d_met.sum(1), d_mass, jnp.stack(d_x, axis=1)


def _n_factors(table):
    """The factors of each group of bands."""
    return [part.shape[1] // 2 for part in table]


def _split(x, sizes):
    """Parts of the given sizes along the last axis."""
    return jnp.split(x, np.cumsum(sizes)[:-1], axis=-1)


def _by_index(
    index: Int[Array, " row"], matrix: Callable, function: Callable, args: tuple[Array, ...], together: tuple[int, ...]
) -> Float[Array, "row out"]:
    """`function(matrix(i))(*args)` of the rows of `args` whose index is i, for indices that never fall.

    As many rows at a time as there are left of the index, in the sizes `together`; the last may have more than are left.
    """
    n = len(index)
    sizes = sorted({min(size, n) for size in together}, reverse=True)
    like = jax.eval_shape(lambda: function(matrix(np.int32(0)))(*(x[: sizes[0]] for x in args)))

    def one_index(state):
        row, found = state
        i = index[row]
        of_rows, end = function(matrix(i)), (index <= i).sum(dtype=np.int32)
        for size in sizes:
            least = size if size != sizes[-1] else 1

            def some(state, size=size):
                # what is written too much is overwritten by the next index; at the end of all rows, those done already stay
                row, found = state
                first = jnp.minimum(row, np.int32(n - size))
                part = lambda x: jax.lax.dynamic_slice_in_dim(x, first, size)  # noqa: E731
                new = (first + np.arange(size, dtype=np.int32) >= row)[:, None]
                here = jnp.where(new, of_rows(*map(part, args)), part(found))
                return row + size, jax.lax.dynamic_update_slice_in_dim(found, here, first, 0)

            row, found = jax.lax.while_loop(lambda state, least=least: state[0] + least <= end, some, (row, found))
        # an index that falls must not hold up the loop
        return jnp.maximum(end, state[0] + 1), found

    start = np.int32(0), jnp.zeros((n, like.shape[1]), like.dtype)
    return jax.lax.while_loop(lambda state: state[0] < n, one_index, start)[1]


# What is done with a matrix is in two steps: with the matrix, once for all rows that share it, and with some of these rows.


def _to_factors(n_met, matrix):
    """From metallicities (row, met) and masses (row, age) to factors (row, K of all groups), with a matrix (age x met, K)."""
    # ages first: the products with the matrices of all metallicities are fewer than those of metallicities with masses
    matrix = matrix.reshape(-1, n_met * matrix.shape[1])

    def factors(metallicity, mass):
        each = matmul(mass, matrix).reshape(len(mass), n_met, -1)
        return (each * metallicity[:, :, None]).sum(1)

    return factors


def _from_factors(n_met, matrix):
    """The derivatives with respect to metallicity and mass, side by side."""
    matrix = matrix.reshape(-1, n_met, matrix.shape[1]).swapaxes(0, 1).reshape(matrix.shape)

    def stars(d_factors, metallicity, mass):
        d_stars = _matmul_transposed(d_factors, matrix).reshape(len(mass), n_met, -1)
        precise = jax.lax.Precision.HIGHEST
        d_met = jnp.einsum("rma,ra->rm", d_stars, mass, precision=precise)
        d_mass = jnp.einsum("rma,rm->ra", d_stars, metallicity, precision=precise)
        return jnp.concatenate([d_met, d_mass], axis=-1)

    return stars


def _of_step(basis, table):
    """Of a step its matrix (4 K, node), of two neighbours of those (segment x redshift, 2 K, node) that its segment has."""
    steps = len(table) // len(basis) - 1

    def matrix(step):
        ends = jax.lax.dynamic_slice_in_dim(table, step + step // np.int32(steps), 2)
        return ends.reshape(-1, ends.shape[-1])

    return matrix


def _to_light(matrix):
    """From factors (row, K) and fractions of a step (row, 1) to light (row, node of the group's bands)."""
    return lambda factors, x: matmul(jnp.concatenate([h * factors for h in hermite(x)], axis=-1), matrix)


def _from_light(matrix):
    """The derivatives with respect to the factors and to the fraction, side by side."""

    def derivatives(d_light, factors, x):
        corners = jnp.split(_matmul_transposed(d_light, matrix), 4, axis=-1)
        d_factors, change = (
            total(h * c for h, c in zip(of(x), corners, strict=True)) for of in (hermite, hermite_slope)
        )
        return jnp.concatenate([d_factors, (factors * change).sum(-1, keepdims=True)], axis=-1)

    return derivatives


def hermite(x):
    """Shares of value and derivative per step at the beginning of a step, and at its end."""
    y = 1.0 - x
    return y * y * (1.0 + 2.0 * x), x * y * y, x * x * (1.0 + 2.0 * y), -x * x * y


def hermite_slope(x):
    y = 1.0 - x
    return -6.0 * x * y, y * (1.0 - 3.0 * x), 6.0 * x * y, x * (3.0 * x - 2.0)


def _matmul_transposed(g, matrix):
    return jax.lax.dot_general(g, matrix, (((1,), (1,)), ((), ())), precision=jax.lax.Precision.HIGHEST)
