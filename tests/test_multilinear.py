"""Sums of products whose order depends on what a batch shares: every order gives the same numbers and derivatives."""

import dataclasses
import itertools

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import dspsx
from dspsx import testing
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


def test_a_table_may_differ_where_a_condition_is_mapped(x64):
    arrays, table = _arrays((), np.random.default_rng(3)), jnp.asarray(TABLE)
    found = jax.vmap(lambda t: of_photons(*arrays.values(), t))(jnp.stack([table, 2.0 * table]))
    np.testing.assert_allclose(found, jnp.stack([_plain(*arrays.values()), 2.0 * _plain(*arrays.values())]), rtol=1e-12)
    some = lambda x: jax.lax.cond(x > 0, lambda: x * _gas(*arrays.values()).sum(), lambda: 0.0 * x)  # noqa: E731
    np.testing.assert_allclose(
        jax.vmap(some)(jnp.asarray([-1.0, 2.0]))[1], 2.0 * _plain(*arrays.values()).sum(), rtol=1e-12
    )
    with pytest.raises(NotImplementedError, match="a batch of galaxies shares"):
        light = lambda basis: expand(jnp.ones(3), jnp.ones((2, 5)), jnp.ones(()), basis, jnp.ones((4, 6)))  # noqa: E731
        jax.vmap(light)(jnp.ones((2, 5, 3, 4)))


def test_derivatives_with_respect_to_the_tables(x64):
    arrays = _arrays((), np.random.default_rng(5))
    of_gas = lambda t: (of_photons(*arrays.values(), t) ** 2).sum()  # noqa: E731
    plain = lambda t: (jnp.einsum("i,j,ra,ijan->rn", *arrays.values(), t) ** 2).sum()  # noqa: E731
    for d in (jax.grad, jax.jacfwd, lambda f: jax.jacfwd(jax.grad(f))):
        np.testing.assert_allclose(d(of_gas)(jnp.asarray(TABLE)), d(plain)(jnp.asarray(TABLE)), rtol=1e-10)
    basis, table = (jnp.asarray(np.random.default_rng(6).uniform(size=shape)) for shape in ((5, 3, 4), (4, 6)))
    z, mass = jnp.asarray(0.5), arrays["photons"]
    light = lambda basis, table: (expand(arrays["lgmet"], mass, z, basis, table) ** 2).sum()  # noqa: E731
    whole = lambda basis, table: (jnp.einsum("Z,sa,aZk,kn->sn", arrays["lgmet"], mass, basis, table) ** 2).sum()  # noqa: E731
    for found, wanted in zip(*(jax.grad(f, (0, 1))(basis, table) for f in (light, whole)), strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-10)


@pytest.mark.parametrize("shared", [True, False])
def test_arrays_of_two_precisions(shared, x64):
    arrays = _arrays((N,), np.random.default_rng(7))
    arrays = {"logu": arrays["logu"].astype("float32"), "lgmet": arrays["lgmet"], "photons": arrays["photons"]}
    axes = (None if shared else 0, 0, 0)
    args = [arrays["logu"][0] if shared else arrays["logu"], arrays["lgmet"], arrays["photons"].astype("float32")]
    found = jax.vmap(jax.value_and_grad(_squares(_gas), argnums=(0, 1, 2)), in_axes=axes)(*args)
    wanted = jax.vmap(jax.value_and_grad(_squares(_plain), argnums=(0, 1, 2)), in_axes=axes)(
        *(x.astype(float) for x in args)
    )
    assert found[0].dtype == np.float64
    assert [x.dtype for x in found[1]] == [np.float32, np.float64, np.float32]
    for x, y in zip(jax.tree.leaves(found), jax.tree.leaves(wanted), strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-6)


def test_every_array_of_a_galaxy_with_gas_has_a_derivative():
    full = testing.fake_galaxy()
    galaxy = dataclasses.replace(full, lines=dspsx.NebularLines(full.ssp))
    found = eqx.filter_jit(eqx.filter_grad(lambda g: g.magnitudes().sum()))(galaxy)
    assert all(bool(jnp.isfinite(x).all()) for x in jax.tree.leaves(found))
    assert float(jnp.abs(found.lines.by_age).max()) > 0


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
