"""Integrals of a spectrum over pixels, and what a Gaussian carries from one pixel to the next; both in closed form."""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from dspsx._numerics import gauss_legendre

#: How many standard deviations a Gaussian is followed; 4e-8 of it lie beyond.
REACH = 5.5
#: Pixels treated together: they look at the same points of the spectrum, which are then fetched once.
_BLOCK = 16
#: Blocks that are worked on at once.
_BATCH = 32


@jax.custom_jvp
def _second_tail(u: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    r""":math:`\int_{-\infty}^u (\phi(t) - |t| \Phi(-|t|)) \, dt`, which goes from 0 to 1/2."""
    a = jnp.abs(u)
    tail, density = _normal(a)
    left = 0.5 * ((a * a + 1.0) * tail - a * density)
    return jnp.where(u < 0, left, 0.5 - left)


@_second_tail.defjvp
def _(primals, tangents):
    (u,), (du,) = primals, tangents
    a = jnp.abs(u)
    tail, density = _normal(a)
    return _second_tail(u), (density - a * tail) * du


def _normal(a: Float[Array, "*shape"]) -> tuple[Float[Array, "*shape"], Float[Array, "*shape"]]:
    """Phi(-a) and the density of a standard normal at a."""
    return 0.5 * jax.lax.erfc(a * math.sqrt(0.5)), jnp.exp(-0.5 * a * a) * (1.0 / math.sqrt(2.0 * math.pi))


def pixel_sums(
    x: Float[Array, " wave"], f_nu: Float[Array, " wave"], edges: Float[Array, " edge"]
) -> Float[Array, " pixel"]:
    r""":math:`\int f_\nu \, d\lambda / \lambda^2` between neighbouring edges, of a spectrum that is linear between its points.

    Each edge and each point starts an interval that ends at the next of either, and Gauss-Legendre does the rest.
    """
    n, n_pixel = x.size, edges.size - 1
    step = x[1:] - x[:-1]
    slope = (f_nu[1:] - f_nu[:-1]) / jnp.where(step > 0, step, 1.0)

    def integrate(start, end, j):
        width = end - start
        at = [start + width * float(node) for node in gauss_legendre(3)[0]]
        value = [
            (f_nu[j] + slope[j] * (a - x[j])) / (a * a) * float(w)
            for a, w in zip(at, gauss_legendre(3)[1], strict=True)
        ]
        return width * (value[0] + value[1] + value[2])

    def earlier(of_point, of_edge):
        return jnp.where(of_point <= of_edge, of_point, of_edge)

    after = jnp.searchsorted(x, edges[:-1], side="right")
    covered = (after > 0) & (after < n)
    j = jnp.clip(after - 1, 0, n - 2)
    end = jnp.where(covered, earlier(x[j + 1], edges[1:]), edges[:-1])
    from_edges = integrate(edges[:-1], end, j)

    pixel = jnp.searchsorted(edges, x[:-1], side="left") - 1  # where both coincide, the edge alone starts an interval
    inside = (pixel >= 0) & (pixel < n_pixel)
    pixel = jnp.clip(pixel, 0, n_pixel - 1)
    end = jnp.where(inside, earlier(x[1:], edges[pixel + 1]), x[:-1])
    from_points = integrate(x[:-1], end, np.arange(n - 1, dtype=np.int32))
    return from_edges + jax.ops.segment_sum(from_points, pixel, n_pixel, indices_are_sorted=True)


def carried_over(
    x: Float[Array, " wave"],
    f_nu: Float[Array, " wave"],
    edges: Float[Array, " edge"],
    sigma: Float[Array, " edge"],
    window: int,
) -> Float[Array, " edge"]:
    r"""Light (as in `pixel_sums`) that a Gaussian in ln(wavelength) of width `sigma` carries over each edge from right to left,
    less what goes from left to right:

    .. math:: D(e) = \int F(y) \, [\Phi(u) - H(u)] \, dy
              = \sigma^2 \sum_j (F'_{j} - F'_{j - 1}) \int_{-\infty}^{u_j} (\phi(t) - |t| \Phi(-|t|)) \, dt
              , \quad u = (\ln e - y) / \sigma

    for :math:`F = f_\nu / \lambda`, linear in y = ln(wavelength) between the points j, with slopes F'. What a pixel gains is
    the difference of D at its edges: nothing is lost, whatever sigma does from edge to edge. The sum is over `window`
    points from `REACH` sigma on; where the spectrum bends elsewhere is of no matter.
    """
    window = min(window, x.size)
    middle = jnp.sqrt(edges[0] * edges[-1])  # logarithms near zero are precise in float32
    y, at = jnp.log(x / middle), jnp.log(edges / middle)
    flux = f_nu / x
    step = y[1:] - y[:-1]
    slope = jnp.pad((flux[1:] - flux[:-1]) / jnp.where(step > 0, step, 1.0), 1)
    bend = slope[1:] - slope[:-1]

    at, width = blocks(at), blocks(sigma)
    first = jnp.searchsorted(y, (at - REACH * width).min(1)).astype(jnp.int32)
    first = jnp.clip(first, 0, x.size - window)
    points = first[:, None] + np.arange(window, dtype=np.int32)[None, :]

    def block(row):
        at, width, y, bend = row
        reached = _second_tail((at[:, None] - y[None, :]) / width[:, None])
        return jnp.matmul(reached, bend, precision=jax.lax.Precision.HIGHEST)

    # a few blocks at a time stay in the cache: the gradient, and a batch of galaxies, are more than twice as fast
    bends = jax.lax.map(block, (at, width, y[points], bend[points]), batch_size=_BATCH)
    return (width * width * (0.5 * slope[first][:, None] + bends)).ravel()[: edges.size]


def blocks(x: Any) -> Any:
    """One row for each block of edges; the last is filled up with the last edge."""
    xp = np if isinstance(x, np.ndarray) else jnp
    return xp.pad(x, (0, -x.size % _BLOCK), mode="edge").reshape(-1, _BLOCK)
