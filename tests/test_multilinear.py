"""Sums of products whose order depends on what a batch shares: every order gives the same numbers and derivatives."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dspsx.compressed.expansion import expand
from dspsx.nebular.at_state import of_photons

N, SHAPES = 3, {"logu": (4,), "lgmet": (3,), "photons": (2, 5)}
TABLE = np.random.default_rng(0).uniform(0.5, 1.5, (4, 3, 5, 6))


def _arrays(lead, rng, dtype=float):
    return {role: jnp.asarray(rng.uniform(0.5, 1.5, (*lead, *shape)), dtype) for role, shape in SHAPES.items()}


def _plain(logu, lgmet, photons):
    return jnp.einsum("i,j,ra,ijan->rn", logu, lgmet, photons, jnp.asarray(TABLE, logu.dtype), precision="highest")


def _gas(logu, lgmet, photons):
    return of_photons(logu, lgmet, photons, jnp.asarray(TABLE, logu.dtype))


def _squares(function):
    """A number that is linear in none of the arguments."""
    return lambda *args: (function(*args) ** 2).sum()


@pytest.mark.parametrize("shared", [*itertools.product([True, False], repeat=3)])
def test_gas_whatever_a_batch_shares(shared, x64):
    rng = np.random.default_rng(1)
    single, many = _arrays((), rng), _arrays((N,), rng)
    args = [single[role] if same else many[role] for role, same in zip(SHAPES, shared, strict=True)]
    axes = tuple(None if same else 0 for same in shared)
    if all(shared):
        np.testing.assert_allclose(_gas(*args), _plain(*args), rtol=1e-12)
    mapped = lambda f: jax.vmap(f, in_axes=axes, axis_size=N)  # noqa: E731
    for transformed in (
        lambda f: mapped(f),
        lambda f: mapped(jax.grad(_squares(f), argnums=(0, 1, 2))),
        lambda f: jax.grad(lambda *args: mapped(_squares(f))(*args).sum(), argnums=(0, 1, 2)),
        lambda f: mapped(jax.hessian(_squares(f), argnums=(0, 1, 2))),
        lambda f: mapped(jax.jacfwd(f, argnums=(0, 1, 2))),
    ):
        found, wanted = (jax.tree.leaves(transformed(f)(*args)) for f in (_gas, _plain))
        for x, y in zip(found, wanted, strict=True):
            np.testing.assert_allclose(x, y, rtol=1e-11)


def test_gas_in_batches_of_batches(x64):
    rng = np.random.default_rng(2)
    logu, lgmet, photons = (_arrays(lead, rng)[role] for lead, role in zip(((2,), (N,), (2, N)), SHAPES, strict=True))
    nested = lambda f: jax.vmap(jax.vmap(f, in_axes=(None, 0, 0)), in_axes=(0, None, 0))  # noqa: E731
    for f, g in ((_gas, _plain), (jax.grad(_squares(_gas), argnums=0), jax.grad(_squares(_plain), argnums=0))):
        np.testing.assert_allclose(nested(f)(logu, lgmet, photons), nested(g)(logu, lgmet, photons), rtol=1e-11)


def test_a_table_is_shared():
    arrays = _arrays((), np.random.default_rng(3), jnp.float32)
    with pytest.raises(NotImplementedError, match="a batch of galaxies shares"):
        jax.vmap(lambda table: of_photons(*arrays.values(), table))(jnp.ones((2, 4, 3, 5, 6), jnp.float32))


@pytest.mark.parametrize("shared", [True, False])
def test_light_is_a_series_in_redshift(shared, x64):
    rng = np.random.default_rng(4)
    basis, table = rng.uniform(size=(5, 3, 4)), rng.uniform(size=(4, 6))
    slope, bend = rng.uniform(size=(2, 5, 3, 6))
    metallicity, mass, z = rng.uniform(size=(N, 3)), rng.uniform(size=(N, 2, 5)), np.full(N, 0.5)
    axes = (None if shared else 0, 0, 0)

    def light(metallicity, mass, z):
        return expand(metallicity, mass, z, *map(jnp.asarray, (basis, table, slope, bend)))

    def series(metallicity, mass, z):
        d = z - 0.5
        matrix = jnp.asarray(basis) @ jnp.asarray(table) + d * jnp.asarray(slope) + d * d / 2 * jnp.asarray(bend)
        return jnp.einsum("Z,sa,aZn->sn", metallicity, mass, matrix)

    args = jnp.asarray(metallicity[0] if shared else metallicity), jnp.asarray(mass), jnp.asarray(z)
    for transform in (
        lambda f: f,
        lambda f: jax.grad(_squares(f), (0, 1, 2)),
        lambda f: jax.hessian(_squares(f), (0, 1, 2)),
    ):
        found, wanted = (jax.tree.leaves(jax.vmap(transform(f), in_axes=axes)(*args)) for f in (light, series))
        for x, y in zip(found, wanted, strict=True):
            np.testing.assert_allclose(x, y, rtol=1e-10, atol=1e-12)
