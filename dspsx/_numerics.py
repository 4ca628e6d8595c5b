"""Small numerical tools whose values AND gradients are finite at the edges of their domain."""

import functools
import math
import operator
from collections.abc import Iterable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

LN10 = math.log(10.0)


def pow10(x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """10**x, by the exponential that the hardware has."""
    return jnp.exp(LN10 * x)


def power(x: Float[Array, "*shape"], p: Any) -> Float[Array, "*shape"]:
    """x**p of positive numbers: where a batch shares them, their logarithms are taken once."""
    return jnp.exp(p * jnp.log(x))


def tiny(dtype) -> float:
    """Smallest normal number of a floating dtype, with some head room for a later division."""
    return float(jnp.finfo(dtype).tiny) * 1e4


def safe_log10(x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """log10(x), held at log10(tiny) with zero gradient where x <= tiny: finite for every number; NaN stays NaN."""
    floor = tiny(x.dtype)
    return jnp.log10(jnp.where(x <= floor, floor, x))


def safe_power(x: Float[Array, "*shape"], p) -> Float[Array, "*shape"]:
    """x**p for x >= 0, equal to 0 with zero gradient at x <= 0 (p > 0)."""
    positive = x > 0
    return jnp.where(positive, power(jnp.where(positive, x, 1.0), p), 0.0)


def within(x: Any, lo: Any, hi: Any) -> Any:
    """x, held inside lo and hi. In its derivative, unlike that of `jnp.clip`, there is no division; at an end it is that inside."""
    x = jnp.where(x < lo, lo, x)
    return jnp.where(x > hi, hi, x)


def to_bounded(u: Float[Array, "*shape"], lo: float | None, hi: float | None) -> Float[Array, "*shape"]:
    """Map the real line onto (lo, hi): sigmoid between two bounds, softplus with one, identity with none."""
    if lo is not None and hi is not None:
        return lo + (hi - lo) * jax.nn.sigmoid(u)
    if lo is not None:
        return lo + jax.nn.softplus(u)
    if hi is not None:
        return hi - jax.nn.softplus(-u)
    return u


#: A value on a bound is moved inside by this fraction of the range, or it would sit at infinity and never move again.
EDGE = 1e-6


def to_unbounded(x: Float[Array, "*shape"], lo: float | None, hi: float | None) -> Float[Array, "*shape"]:
    """Inverse of `to_bounded`."""
    if lo is not None and hi is not None:
        y = jnp.clip((x - lo) / (hi - lo), EDGE, 1.0 - EDGE)
        return jnp.log(y) - jnp.log1p(-y)
    if lo is None and hi is None:
        return x
    inside = x - lo if lo is not None else hi - x  # pyright: ignore[reportOptionalOperand]
    y = jnp.maximum(inside, EDGE)
    u = y + jnp.log(-jnp.expm1(-y))
    return u if lo is not None else -u


@functools.cache
def gauss_legendre(n: int) -> tuple[np.ndarray, np.ndarray]:
    """Nodes and weights on [0, 1]: sum(w f(x)) is exact for polynomials of degree 2n - 1."""
    x, w = np.polynomial.legendre.leggauss(n)
    return (x + 1.0) / 2.0, w / 2.0


@jax.custom_jvp
def sort_few(x: Float[Array, " n"]) -> Float[Array, " n"]:
    """Sort a handful of numbers, each by how many others come before it: plain arithmetic, which a batch vectorises."""
    rank = _ranks(x)
    return total(jnp.where(rank[i] == np.arange(x.size, dtype=np.int32), x[i], 0.0) for i in range(x.size))


@sort_few.defjvp
def _(primals, tangents):
    (x,), (change,) = primals, tangents
    # the transpose of this is to look the values up
    change = jnp.zeros_like(x).at[_ranks(x)].add(change, mode="promise_in_bounds", unique_indices=True)
    return sort_few(x), change


def _ranks(x: Float[Array, " n"]) -> Int[Array, " n"]:
    """How many others come before each number; of equal ones, those that stand before it."""
    place = np.arange(x.size)
    before = ((x[i] < x) | ((x[i] == x) & (i < place)) for i in range(x.size))
    return total(b.astype(np.int32) for b in before)


def count_below(x: Float[Array, " n"], bounds: Float[Array, " m"]) -> Int[Array, " m"]:
    """How many of x are at each bound or below it; in numbers that vectorise."""
    return (x[None, :] <= bounds[:, None]).sum(1, dtype=np.float32).astype(np.int32)


def running_sum(x: Int[Array, " n"]) -> Int[Array, " n"]:
    """Cumulative sum of whole numbers, in two steps that vectorise: along rows, then over their ends."""
    n = math.isqrt(x.size) + 1
    rows = jnp.cumsum(jnp.pad(x, (0, n * n - x.size)).reshape(n, n), axis=1)
    ends = jnp.cumsum(rows[:, -1]) - rows[:, -1]
    return (rows + ends[:, None]).ravel()[: x.size]


#: Widths in ln(wavelength) at which `crowding` counts.
CROWDING_WIDTHS = tuple(2.0 ** (0.125 * k) for k in range(-80, 32))


def crowding(wave: np.ndarray) -> tuple[int, ...]:
    """The most points that an axis of wavelengths has in any window of each of a list of widths in ln(wavelength).

    A spectrum that knows this of itself lets the band integrals look at a few of its points only, at any redshift.
    """
    ln = np.log(np.asarray(wave, float))
    return tuple(
        int((np.searchsorted(ln, ln + w * (1 + 1e-5), side="right") - np.arange(ln.size)).max())
        for w in CROWDING_WIDTHS
    )


# The triweight kernel; its integrals have derivatives of their own, which are shorter than those of polynomials in a clipped
# number.


@jax.custom_jvp
def triweight_cdf(z: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    r"""Cumulative triweight kernel of unit variance, :math:`p(z) = \frac{35}{96} (1 - z^2/9)^3` on :math:`|z| \le 3`."""
    # what lies beyond |z|, zero from 3 on without rounding: weights that are a difference of two such are zero then
    a = jnp.minimum(jnp.abs(z), 3.0) / 3.0
    left = 1.0 - a
    left = left * left
    tail = left * left * (0.5 + a * (29.0 / 32.0 + a * (20.0 / 32.0 + a * (5.0 / 32.0))))
    return jnp.where(z < 0.0, tail, 1.0 - tail)


@triweight_cdf.defjvp
def _(primals, tangents):
    return triweight_cdf(*primals), triweight_density(*primals) * tangents[0]


@jax.custom_jvp
def triweight_moment(z: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    r""":math:`\int_{-3}^{z} x\,p(x)\,dx = -\frac{105}{256} (1 - z^2/9)^4`, the first moment that goes with the CDF."""
    y = within(z, -3.0, 3.0) / 3.0
    return -(105.0 / 256.0) * (1.0 - y * y) ** 4


@triweight_moment.defjvp
def _(primals, tangents):
    (z,) = primals
    return triweight_moment(z), within(z, -3.0, 3.0) * triweight_density(z) * tangents[0]


def triweight_density(z: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    r"""Triweight kernel of unit variance, :math:`\frac{35}{96} (1 - z^2/9)^3` on :math:`|z| \le 3`."""
    y = within(z, -3.0, 3.0) / 3.0
    rest = 1.0 - y * y
    return (35.0 / 96.0) * rest * rest * rest


#: Scatter below this, in dex, is smoothed to it: the gradient of a delta function stays accurate in float32.
_SOFTENING = 1e-4


def triweight_hat_weights(grid: Float[Array, " n"], mean: Any, scatter: Any) -> Float[Array, " n"]:
    """Integrals of a triweight kernel against the hat functions of an increasing grid; they sum to one."""
    return _hat_weights(triweight_cdf, triweight_moment, grid, mean, scatter)


def gaussian_hat_weights(grid: Float[Array, " n"], mean: Any, scatter: Any) -> Float[Array, " n"]:
    """Integrals of a Gaussian against the hat functions of an increasing grid; they sum to one."""
    return _hat_weights(
        lambda z: 0.5 * (1.0 + jax.lax.erf(z * math.sqrt(0.5))),
        lambda z: -jnp.exp(-0.5 * jnp.minimum(z * z, 150.0)) / math.sqrt(2.0 * math.pi),
        grid,
        mean,
        scatter,
    )


def _hat_weights(cdf_of, moment_of, grid, mean, scatter):
    r"""Second differences over the grid of :math:`J(x) = \int (x - x')_+ p(x') dx'`, for an even kernel.

    J is split into that of a delta function, whose differences are known without rounding, and a rest of compact support.
    """
    scatter = jnp.sqrt(scatter**2 + _SOFTENING**2)
    # in rows of their own: the transpose is a matrix product
    mean, inverse = jnp.split(matmul(jnp.stack([mean, 1.0 / scatter]), spread(2, grid.size)), 2)
    above = grid > mean
    z = jnp.where(above, grid - mean, mean - grid) * inverse
    rest = (-moment_of(z) - z * cdf_of(-z)) / inverse
    width = jnp.diff(grid)
    delta = jnp.where(above[:-1], 1.0, jnp.where(above[1:], (grid[1:] - mean[1:]) / width, 0.0))
    below = delta + (rest[1:] - rest[:-1]) / width  # mean over each cell of the cumulative distribution
    one = jnp.ones_like(below[:1])
    weights = jnp.concatenate([below, one]) - jnp.concatenate([0.0 * one, below])
    return jnp.where(weights < 0.0, 0.0, weights)  # rounding only


def interpolation_weights(x: Any, grid: Any) -> Float[Array, " n"]:
    """Weights of the points, two or more, of an increasing grid in the linear interpolation to x; beyond it its nearest end.

    On a point the derivative is the mean of those on its two sides, as in a central difference; on an end, that inside.
    """
    grid = jnp.asarray(grid, x.dtype)
    x = jnp.where(x < grid[0], grid[0], jnp.where(x > grid[-1], grid[-1], x))
    passed = 0.5 * ((x > grid[1:-1]).astype(x.dtype) + (x >= grid[1:-1]).astype(x.dtype))
    here = -jnp.diff(passed, prepend=1.0, append=0.0)  # share of each interval: one, or two halves
    part = here * (x - grid[:-1]) / jnp.diff(grid)
    return jnp.pad(here - part, (0, 1)) + jnp.pad(part, (1, 0))


def matmul(x, matrix):
    """x @ matrix in the full precision of its dtype, on an accelerator too; the matrix may be a constant in NumPy."""
    return jnp.matmul(x, jnp.asarray(matrix, x.dtype), precision=jax.lax.Precision.HIGHEST)


def total(terms: Iterable[Any]) -> Any:
    """Sum of arrays, term by term: the compiler makes one loop of it."""
    return functools.reduce(operator.add, terms)


# Two products that galaxies in a batch spend their time with. What plain broadcasting becomes in a derivative is a small sum
# for each element, slow on a CPU; the transpose of a product with a constant matrix of zeros and ones is a matrix product.


def spread(n: int, m: int) -> np.ndarray:
    """Matrix (n, n m) that repeats each of n numbers m times."""
    return np.repeat(np.eye(n), m, axis=1)


def _row(x, like):
    """x (n,) with as many axes as `like`."""
    return x.reshape(*(1,) * (like.ndim - 1), -1)


def sum_of_products(weights: Float[Array, " part"], parts: Float[Array, "*shape part_n"]) -> Float[Array, "*shape n"]:
    """weights (part,) times parts (..., part x n), summed over the parts: (..., n)."""
    # the weights once for each row: a batch of galaxies is slow with axes that only one of two factors has
    each = jnp.broadcast_to(weights, (*parts.shape[:-1], 1, weights.size))
    return matmul(each, parts.reshape(*parts.shape[:-1], weights.size, -1))[..., 0, :]


@jax.custom_jvp
def outer(a: Float[Array, " n"], b: Float[Array, "*shape m"]) -> Float[Array, "*shape n_m"]:
    """All products of a (n,) with b (..., m), in one row: (..., n x m)."""
    return _products(a, b)


@outer.defjvp
def _(primals, tangents):
    (a, b), (d_a, d_b) = primals, tangents
    return outer(a, b), _products(d_a, b) + _products(a, d_b)


def _products(a, b):
    return _row(matmul(a, spread(a.size, b.shape[-1])), b) * jnp.concatenate([b] * a.size, axis=-1)
