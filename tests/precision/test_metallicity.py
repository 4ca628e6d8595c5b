"""The default metallicity weights: mean, sign, sum and gradients, on any grid."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import dspsx
from tests.precision import oracle

GRIDS = {
    "PopStar": np.log10([0.0001, 0.0004, 0.004, 0.008, 0.02, 0.05]),
    "BC03": np.log10(0.02 * np.array([0.005, 0.02, 0.2, 0.4, 1.0, 2.5, 5.0])),
    "uniform": np.linspace(-4.2, -1.2, 22),
}
SCATTERS = np.array([0.0, 1e-6, 1e-4, 1e-3, 0.01, 0.05, 0.2, 0.5])
every_grid = pytest.mark.parametrize("name", GRIDS)


def weights(grid, mean, scatter):
    model = dspsx.LognormalMDF(lgmet=mean, scatter=scatter)
    return model.weights(grid, jnp.zeros(1, grid.dtype), dspsx.DelayedTauSFH(), jnp.asarray(10.0, grid.dtype))[:, 0]


many = jax.jit(jax.vmap(weights, in_axes=(None, 0, 0)))
jacobians = jax.jit(jax.vmap(jax.jacfwd(weights, argnums=(1, 2)), in_axes=(None, 0, 0)))
reverse = jax.jit(jax.vmap(jax.jacrev(weights, argnums=(1, 2)), in_axes=(None, 0, 0)))


def pairs(grid, n=101):
    """Means over the grid's range, its points and their neighbours among them, times all scatters; exact in float32."""
    near = (grid[:, None] + np.array([-3e-4, -1e-4, -1e-6, 0, 1e-6, 1e-4, 3e-4])).ravel()
    mean = np.concatenate([np.linspace(grid[0], grid[-1], n), near]).clip(grid[0], grid[-1])
    mean, scatter = (x.ravel() for x in np.meshgrid(mean, SCATTERS))
    return mean.astype(np.float32).astype(float), scatter.astype(np.float32).astype(float)


def arrays(*columns):
    return [jnp.asarray(x, dtype=float) for x in columns]


@every_grid
def test_mean_is_kept_and_weights_are_probabilities(name, precision):
    grid = GRIDS[name].astype(np.float32).astype(float)
    mean, scatter = pairs(grid)
    w = np.asarray(many(*arrays(grid, mean, scatter)), float)
    assert w.min() >= 0
    assert np.abs(w.sum(-1) - 1).max() < (1e-6 if precision == "float32" else 1e-14)
    # 3e-4: three times the softening of dspsx, that makes the kernel of scatter 0 as wide as that
    inside = (mean - 3 * scatter >= grid[0] + 3e-4) & (mean + 3 * scatter <= grid[-1] - 3e-4)
    error = np.abs(w @ grid - mean)[inside]
    print(f"\n{name}, {precision}: mean of lgmet off by {error.max():.2g} dex at most, {inside.sum()} cases")
    assert error.max() < (5e-6 if precision == "float32" else 1e-9)


@every_grid
def test_weights_are_the_integrals_against_hat_functions(name, x64):
    grid = GRIDS[name]
    mean, scatter = pairs(grid, 21)
    w = np.asarray(many(*arrays(grid, mean, scatter)))
    truth = np.empty_like(w)
    for i, (m, s) in enumerate(zip(mean, scatter, strict=True)):
        z, probability = oracle.metallicity_nodes(m, s, 2000)
        truth[i] = probability @ oracle.interpolate(z, grid, np.eye(grid.size))
    # the softening of 1e-4 dex shows where the distribution straddles a point of the grid
    assert np.abs(w - truth).max() * np.diff(grid).min() < 1e-4
    wide = scatter >= 0.01
    assert np.abs(w - truth)[wide].max() < 1e-5


@every_grid
def test_gradient_never_vanishes(name, precision):
    grid = GRIDS[name].astype(np.float32).astype(float)
    mean, scatter = pairs(grid, 1001)
    inside = (mean > grid[0] + 1e-6) & (mean < grid[-1] - 1e-6)
    forward = np.asarray(jnp.stack(jacobians(*arrays(grid, mean, scatter))), float)
    backward = np.asarray(jnp.stack(reverse(*arrays(grid, mean, scatter))), float)
    assert np.isfinite(forward).all() and np.isfinite(backward).all()
    for jacobian in (forward, backward):
        # the mean metallicity of the stars moves by the share of them that lies inside the grid: half at its ends
        of_mean = (jacobian[0] @ grid)[inside]
        assert of_mean.min() > 0.45
        assert of_mean.max() < 1.005
    print(
        f"\n{name}, {precision}: d <lgmet> / d lgmet from {of_mean.min():.3f} to {of_mean.max():.5f}, {inside.sum()} cases"
    )


@every_grid
def test_float32_gradients(name):
    grid = GRIDS[name].astype(np.float32).astype(float)
    mean, scatter = pairs(grid)
    result = {}
    for x64 in (False, True):
        with jax.enable_x64(x64):
            result[x64] = np.asarray(jnp.stack(jacobians(*arrays(grid, mean, scatter))), float)
    # both gradients are at most of the order of one over the width of a cell
    error = np.abs(result[True] - result[False]) * np.diff(grid).min()
    worst = [error[k].max() for k in range(2)]
    print(f"\n{name}: float32 d w/d lgmet off by {worst[0]:.2g}, d w/d scatter by {worst[1]:.2g} per narrowest cell")
    assert max(worst) < 5e-4
