"""The weights as DSPS 0.4.8 defines them, kept for parity: `scheme="dsps"` of TabulatedSFH, LognormalMDF and others.

Hearin et al. 2023, MNRAS 521, 1741. Use them in float64, as DSPS does: the age weights are differences of a cumulative
mass, which float32 cannot hold for young stars.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from dspsx._model import Scalar
from dspsx._numerics import pow10, triweight_cdf, triweight_density

_T_BIRTH_MIN = 0.001  # Gyr
_SFR_MIN = 1e-14  # Msun/yr


def bin_edges(grid: Float[Array, " n"]) -> Float[Array, " n+1"]:
    """Bin edges around the points of a grid; they are midpoints only if it is uniform."""
    if grid.size < 3:
        raise ValueError(f'scheme="dsps" needs at least three points on each axis of the SSP grid; got {grid.size}.')
    first = (grid[1] - grid[0])[None]
    inner = (grid[2:] - grid[:-2]) / 2.0
    last = ((grid[-1] - grid[-2]) / 2.0 + (grid[-1] - grid[-3]) / 4.0)[None]
    step = jnp.concatenate([first, inner, last])
    return jnp.concatenate([grid - step / 2.0, (grid[-1] + step[-1] / 2.0)[None]])


def age_weights(
    t_table: Float[Array, " t"], sfr_table: Float[Array, " t"], lg_age: Float[Array, " age"], t_obs: Scalar
) -> Float[Array, " age"]:
    """Mass formed in Msun in each age bin: differences of the tabulated mass, normalised to the mass formed by t_obs."""
    dtype = lg_age.dtype
    t = jnp.concatenate([jnp.full(1, _T_BIRTH_MIN, dtype), t_table])
    sfr = jnp.concatenate([jnp.full(1, _SFR_MIN, dtype), jnp.maximum(sfr_table, _SFR_MIN)])
    mass = jnp.cumsum((sfr[1:] + sfr[:-1]) / 2.0 * jnp.diff(t)) * 1e9
    lgt, lg_mass = jnp.log10(t[1:]), jnp.log10(mass)
    birth = jnp.log10(jnp.maximum(t_obs - pow10(bin_edges(lg_age)), _T_BIRTH_MIN))
    formed = -jnp.diff(pow10(jnp.interp(birth, lgt, lg_mass)))
    total = pow10(jnp.interp(jnp.log10(t_obs), lgt, lg_mass))
    return formed * (total / formed.sum())


def lognormal_weights(grid: Float[Array, " met"], mean: Scalar, scatter: Scalar) -> Float[Array, " met"]:
    """The triweight kernel integrated between bin edges, the outer two at -10 and 10; without scatter, one bin."""
    edges = bin_edges(grid).at[0].set(-10.0).at[-1].set(10.0)
    cdf = triweight_cdf((mean - edges) / jnp.where(scatter > 0, scatter, 1.0))
    single = jax.nn.one_hot(jnp.searchsorted(edges, mean, side="right") - 1, grid.size, dtype=grid.dtype)
    weights = jnp.where(scatter > 0, cdf[:-1] - cdf[1:], single)
    return weights / weights.sum()


def burst_weights(lg_age: Float[Array, " age"], lgyr_peak: Scalar, scatter: Scalar) -> Float[Array, " age"]:
    """Triweight kernel in log10(age / yr) at the ages of the grid, normalised; nothing where it reaches none of them."""
    density = triweight_density((lg_age + 9.0 - lgyr_peak) / scatter)
    return density / jnp.where(density.sum() > 0, density.sum(), 1.0)
