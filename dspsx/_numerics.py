"""Small numerical tools whose values AND gradients are finite at the edges of their domain."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

LN10 = math.log(10.0)


def pow10(x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """10**x, by the exponential that the hardware has."""
    return jnp.exp(LN10 * x)


def tiny(dtype) -> float:
    """Smallest normal number of a floating dtype, with some head room for a later division."""
    return float(jnp.finfo(dtype).tiny) * 1e4


def safe_log10(x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """log10(x), held at log10(tiny) with zero gradient where x <= tiny: finite for every x."""
    floor = tiny(x.dtype)
    return jnp.log10(jnp.where(x > floor, x, floor))


def safe_power(x: Float[Array, "*shape"], p) -> Float[Array, "*shape"]:
    """x**p for x >= 0, equal to 0 with zero gradient at x <= 0 (p > 0)."""
    positive = x > 0
    return jnp.where(positive, jnp.where(positive, x, 1.0) ** p, 0.0)


def to_bounded(u: Float[Array, "*shape"], lo: float | None, hi: float | None) -> Float[Array, "*shape"]:
    """Map the real line onto (lo, hi): sigmoid between two bounds, softplus with one, identity with none."""
    if lo is not None and hi is not None:
        return lo + (hi - lo) * jax.nn.sigmoid(u)
    if lo is not None:
        return lo + jax.nn.softplus(u)
    if hi is not None:
        return hi - jax.nn.softplus(u)
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
    return y + jnp.log(-jnp.expm1(-y))


@functools.cache
def gauss_legendre(n: int) -> tuple[np.ndarray, np.ndarray]:
    """Nodes and weights on [0, 1]: sum(w f(x)) is exact for polynomials of degree 2n - 1."""
    x, w = np.polynomial.legendre.leggauss(n)
    return (x + 1.0) / 2.0, w / 2.0


def merge_sorted(a: Float[Array, " n"], b: Float[Array, " m"]) -> Float[Array, " n+m"]:
    """Merge a sorted array with a few more numbers (sorted here), with gradients to both.

    For the handful of break points of a star formation history this is cheaper than sorting everything: each
    element's place is its own index plus the number of elements of the other array before it.
    """
    b = jnp.sort(b)
    before = b[:, None] < a[None, :]  # ties: a first
    place_a = jnp.arange(a.size) + before.sum(0)
    place_b = jnp.arange(b.size) + (~before).sum(1)
    out = jnp.zeros(a.size + b.size, a.dtype)
    return out.at[place_a].set(a, unique_indices=True).at[place_b].set(b, unique_indices=True)


def triweight_cdf(z: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    r"""Cumulative triweight kernel of unit variance, :math:`p(z) = \frac{35}{96} (1 - z^2/9)^3` on :math:`|z| \le 3`."""
    y = jnp.clip(z, -3.0, 3.0) / 3.0
    y2 = y * y
    return jnp.clip(0.5 + y * (35.0 / 32.0) * (1.0 + y2 * (-1.0 + y2 * (0.6 - y2 / 7.0))), 0.0, 1.0)


def triweight_moment(z: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    r""":math:`\int_{-3}^{z} x\,p(x)\,dx = -\frac{105}{256} (1 - z^2/9)^4`, the first moment that goes with the CDF."""
    y = jnp.clip(z, -3.0, 3.0) / 3.0
    return -(105.0 / 256.0) * (1.0 - y * y) ** 4
