"""Integrals of a spectrum through bands: both are straight lines between points of their own."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.custom_batching import custom_vmap
from jax.custom_derivatives import SymbolicZero
from jaxtyping import Array, Float

from dspsx._multilinear import multilinear
from dspsx._numerics import CROWDING_WIDTHS, gauss_legendre, matmul, running_sum

#: Gauss-Legendre nodes per interval, where the integrand is a product of two straight lines over lambda.
_ORDER = 3


def projection(
    x: Float[Array, " wave"],
    f: Float[Array, " point"],
    transmission: Float[Array, " point"],
    sizes: tuple[int, ...],
    windows: tuple[int, ...],
) -> Float[Array, "band wave"]:
    """Normalised integrals of T dlambda/lambda against the hat functions of the observed wavelengths x, for each band.

    The union of the points of x and of a curve f is never sorted: each point starts one interval, which ends at the next
    point of either, found by counting. Where two coincide, the spectrum's comes first. Only `windows` points of the
    spectrum are looked at for each band: as many as can lie within it.
    """
    n, size, window = x.size, np.asarray(sizes, np.int32), np.asarray(windows, np.int32)
    bands = np.arange(size.size, dtype=np.int32)
    first, window_first = (np.cumsum(count, dtype=np.int32) - count for count in (size, window))
    band, window_band = np.repeat(bands, size), np.repeat(bands, window)
    starts = np.setdiff1d(np.arange(f.size - 1, dtype=np.int32), first[1:] - 1)  # a curve's last point starts nothing
    step = f[1:] - f[:-1]
    slope = (transmission[1:] - transmission[:-1]) / jnp.where(step > 0, step, 1.0)
    intervals = jnp.stack([f[:-1], f[1:], transmission[:-1], slope], axis=-1)

    def integrate(start, end, interval, left, right):
        """Shares of the points left and right in the integral from start to end, in an interval of a curve."""
        width = end - start
        wave, _, value_there, slope = (interval[:, i] for i in range(4))
        total = upper = jnp.zeros_like(start)
        for node, weight in zip(*gauss_legendre(_ORDER), strict=True):
            at = start + width * float(node)
            value = (value_there + slope * (at - wave)) * (width * float(weight)) / at
            total, upper = total + value, upper + value * ((at - left) / (right - left))
        return jnp.stack([total - upper, upper], axis=-1)

    def earlier(of_spectrum, of_curve):
        """The next point; unlike jnp.minimum, with the gradient of the spectrum's where the two coincide."""
        return jnp.where(of_spectrum <= of_curve, of_spectrum, of_curve)

    # intervals that start at a point of a curve, in the interval j of the spectrum
    after = jnp.searchsorted(x, f, side="right").astype(jnp.int32)  # points of x up to and with each f
    j = jnp.clip(after[starts] - 1, 0, n - 2)
    covered = (after[starts] > 0) & (after[starts] < n)
    end = jnp.where(covered, earlier(x[j + 1], f[starts + 1]), f[starts])
    of_curve = integrate(f[starts], end, intervals[starts], x[j], x[j + 1])

    # intervals that start at a point i of the spectrum, in the interval k of a curve; the windows one after the other
    begin = jnp.clip(after[first] - 1, 0, n - 1 - window)
    place = window_first[band] + jnp.clip(after - begin[band], 0, window[band])
    before = running_sum(jnp.zeros(window.sum() + 1, jnp.int32).at[place].add(1))[:-1]  # curves' points before each i
    k = before - 1
    inside = (k >= first[window_band]) & (k < (first + size - 1)[window_band])
    interval = intervals.at[jnp.clip(k, 0, f.size - 2)].get(mode="promise_in_bounds")
    pieces = [jax.lax.dynamic_slice(x, (start,), (count + 1,)) for start, count in zip(begin, windows, strict=True)]
    left, right = (jnp.concatenate([piece[of] for piece in pieces]) for of in (slice(-1), slice(1, None)))
    end = jnp.where(inside, earlier(right, interval[:, 1]), left)
    of_spectrum = integrate(left, end, interval, left, right)

    cuts = np.cumsum(window)[:-1]
    rows = [
        jax.lax.dynamic_update_slice(
            jnp.zeros(n, x.dtype), jnp.pad(part[:, 0], (0, 1)) + jnp.pad(part[:, 1], (1, 0)), (start,)
        )
        for start, part in zip(begin, jnp.split(of_spectrum, cuts), strict=True)
    ]
    where = (np.concatenate([band[starts]] * 2), jnp.concatenate([j, j + 1]))
    rows = jnp.stack(rows).at[where].add(jnp.concatenate([of_curve[:, 0], of_curve[:, 1]]))
    return rows / norms(f, transmission, sizes)[:, None]


def norms(f: Array, transmission: Array, sizes: tuple[int, ...]) -> Float[Array, " band"]:
    """The integral of T dlambda/lambda of each band; the steps of its curve are narrow."""
    step = jnp.diff(f)
    parts = jnp.zeros_like(step)
    for node, weight in zip(*gauss_legendre(_ORDER), strict=True):
        value = transmission[:-1] + jnp.diff(transmission) * float(node)
        parts = parts + value * (step * float(weight)) / (f[:-1] + step * float(node))
    band = np.repeat(np.arange(len(sizes), dtype=np.int32), sizes)
    starts = np.setdiff1d(np.arange(f.size - 1, dtype=np.int32), np.cumsum(sizes, dtype=np.int32)[:-1] - 1)
    return jax.ops.segment_sum(parts[starts], band[starts], len(sizes), indices_are_sorted=True)


# The mean of one spectrum in each band. The matrix of `projection` looks at every point of the spectrum that a band may touch; one
# spectrum is faster done the other way round, by points of the curves, and so are many with a redshift each. Their derivatives are,
# too, of a spectrum that is so crowded somewhere that the matrix looks at many points in vain; else they are faster by the matrix,
# which many at one redshift share. The two are the same integral, exact in either way: a test compares them.

#: How many times as many points as there are the matrix must look at for derivatives to be by points of the curves.
_IN_VAIN = 3


def average(layout: Any, x: Float[Array, " wave"], light: Float[Array, " wave"], f: Array, transmission: Array):
    """Mean in each band (band,) of light at observed wavelengths x, of curves f, transmission (point,).

    `layout`: sizes of the curves, windows of the bands, and the most points of x between two neighbours of a curve.
    """
    return _average(x.size, layout)(x, light, f, transmission)


@functools.cache
def _average(n: int, layout: Any):
    sizes, windows, most = layout
    depth, crowded = most.bit_length(), sum(windows) > _IN_VAIN * (n + sum(sizes))

    def product(x, light, f, transmission):
        return matmul(light, projection(x, f, transmission, sizes, windows).T)

    def one_by_one(x, light, f, transmission):
        return _by_curves(x, light, f, transmission, sizes, depth)

    value = custom_vmap(one_by_one)

    @value.def_vmap
    def _(size, batched, x, light, f, transmission):
        if not any(batched):
            return one_by_one(x, light, f, transmission), False
        each = jax.vmap(one_by_one, tuple(0 if b else None for b in batched))
        if batched[2] or batched[3] or not batched[1]:
            return each(x, light, f, transmission), True
        if not batched[0]:
            return product(x, light, f, transmission), True
        together = lambda x, *rest: product(x[0], *rest)  # noqa: E731
        return jax.lax.cond(_at_one_redshift(x), together, each, x, light, f, transmission), True

    def one_matrix(x, f, transmission):
        return projection(x, f, transmission, sizes, windows)

    shared_matrix = custom_vmap(one_matrix)

    @shared_matrix.def_vmap
    def _(size, batched, x, f, transmission):
        if not any(batched):
            return one_matrix(x, f, transmission), False
        each = jax.vmap(one_matrix, tuple(0 if b else None for b in batched))
        if batched[1] or batched[2]:
            return each(x, f, transmission), True
        together = lambda x, *curves: jnp.broadcast_to(one_matrix(x[0], *curves), (size, len(sizes), x.shape[1]))  # noqa: E731
        return jax.lax.cond(_at_one_redshift(x), together, each, x, f, transmission), True

    @jax.custom_jvp
    def matrix(x, f, transmission):
        return shared_matrix(x, f, transmission)

    @matrix.defjvp
    def _(primals, tangents):
        return jax.jvp(one_matrix, primals, tangents)

    def linear(arrays, at, tensors, found, order):
        """What is linear in the light alone, or its transpose."""
        x, f, transmission = tensors
        (given,) = arrays.values()
        if given.ndim > 1:
            to_bands = projection(x, f, transmission, sizes, windows)
            return matmul(given, to_bands.T if found == "bands" else to_bands)
        of_light = lambda light: one_by_one(x, light, f, transmission)  # noqa: E731
        if found == "bands":
            return of_light(given)
        (back,) = jax.linear_transpose(of_light, jax.ShapeDtypeStruct(x.shape, given.dtype))(given)
        return back

    change = multilinear("change_of_bands", {"light": 1, "bands": 1}, linear)

    @jax.custom_jvp
    def mean(x, light, f, transmission):
        return value(x, light, f, transmission)

    @functools.partial(mean.defjvp, symbolic_zeros=True)
    def _(primals, tangents):
        x, light, f, transmission = primals
        d_x, d_light, *d_curves = tangents
        if all(isinstance(d, SymbolicZero) for d in (d_x, *d_curves)):
            if crowded:
                return mean(*primals), change({"light": d_light}, jnp.zeros((), light.dtype), (x, f, transmission))
            to_bands = matrix(x, f, transmission).T
            return matmul(light, to_bands), matmul(d_light, to_bands)
        d_x, d_light, *d_curves = (jnp.zeros(d.shape, d.dtype) if isinstance(d, SymbolicZero) else d for d in tangents)
        return jax.jvp(one_by_one if crowded else product, primals, (d_x, d_light, *d_curves))

    return mean


def _at_one_redshift(x: Float[Array, "galaxy wave"]) -> Array:
    """Whether galaxies share their redshift, that has been batched together with all other parameters."""
    return (x == x[:1]).all()


def _by_curves(x, light, f, transmission, sizes, depth):
    """`average` by integrals of light dlambda/lambda, and of its first moment, between neighbours of each curve.

    What lies between is put together of runs of 1, 2, 4, ... intervals of the spectrum; nothing is ever subtracted, as with
    a cumulative integral, so that faint light beside bright light keeps its digits.
    """
    n, size = x.size, np.asarray(sizes, np.int32)
    starts = np.setdiff1d(np.arange(f.size - 1, dtype=np.int32), np.cumsum(size)[:-1] - 1)
    gradient = jnp.diff(light) / jnp.diff(x)

    def moments(start, end, value, slope):
        """Integrals of (value + slope (lambda - start)) dlambda/lambda, and of that times (lambda - start)."""
        width = end - start
        zeroth = first = jnp.zeros_like(start)
        for node, weight in zip(*gauss_legendre(_ORDER), strict=True):
            off = width * float(node)
            part = (value + slope * off) * (width * float(weight)) / (start + off)
            zeroth, first = zeroth + part, first + part * off
        return zeroth, first

    # what is linear in the light is kept apart from the rest, so that the transpose is only of that
    zeroth, first = moments(x[:-1], x[1:], light[:-1], gradient)
    runs = jnp.stack([zeroth, first], axis=-1)

    at = jnp.clip(f, x[0], x[-1])
    inside = jnp.clip(jnp.searchsorted(x, at, side="right").astype(jnp.int32) - 1, 0, n - 2)
    start, end, i, j = at[starts], at[starts + 1], inside[starts], inside[starts + 1]
    take = lambda y, k: y.at[k].get(mode="promise_in_bounds")  # noqa: E731
    lines = jnp.stack([light[:-1], gradient], axis=-1)
    left, right, of_left, of_right = take(lines, i), take(lines, j), take(x, i), take(x, j)
    begin = jnp.where(i == j, end, of_right)
    here = jnp.where(i == j, end, take(x, i + 1))
    zeroth, first = moments(start, here, left[:, 0] + left[:, 1] * (start - of_left), left[:, 1])
    last = moments(begin, end, right[:, 0] + right[:, 1] * (begin - of_right), right[:, 1])
    zeroth, first = zeroth + last[0], first + last[1] + (begin - start) * last[0]
    count, place = jnp.maximum(j - i - 1, 0), jnp.minimum(i + 1, n - 2)
    # a step wider than any that a FilterSet is made with
    zeroth = zeroth * jnp.where(count >> depth == 0, 1.0, jnp.nan)

    def level(state, k):
        """Put in the runs of 2**k intervals that are needed, and make of them those twice as long; of runs that go beyond the end
        there is no need."""
        runs, place, zeroth, first = state
        there = (count >> k) & 1
        found = jnp.where((there == 1)[:, None], take(runs, place), 0.0)
        zeroth = zeroth + found[:, 0]
        first = first + found[:, 1] + (take(x, place) - start) * found[:, 0]
        later = jnp.roll(runs, -(1 << k), axis=0)
        between = jnp.roll(x[:-1], -(1 << k)) - x[:-1]
        twice = runs + later + jnp.stack([jnp.zeros_like(between), between * later[:, 0]], axis=-1)
        return (twice, jnp.minimum(place + (there << k), n - 2), zeroth, first), None

    (_, _, zeroth, first), _ = jax.lax.scan(level, (runs, place, zeroth, first), np.arange(depth, dtype=np.int32))

    wide = f[starts + 1] - f[starts]
    slope = (transmission[starts + 1] - transmission[starts]) / jnp.where(wide > 0, wide, 1.0)
    parts = (transmission[starts] + slope * (start - f[starts])) * zeroth + slope * first
    bands = jnp.split(parts, np.cumsum(size - 1)[:-1])
    return jnp.stack([part.sum() for part in bands]) / norms(f, transmission, sizes)


def windows(n: int, widths: tuple[float, ...], crowds: tuple[int, ...] | None) -> tuple[int, ...]:
    """How many intervals of a spectrum of n points a band of each width can touch."""
    if crowds is None:
        return (n - 1,) * len(widths)
    counts = [next((c for w, c in zip(CROWDING_WIDTHS, crowds, strict=True) if w >= width), n) for width in widths]
    return tuple(min(c + 2, n - 1) for c in counts)
