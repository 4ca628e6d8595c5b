"""A galaxy with all that a galaxy can have, on the embedded grid: compressed within its certificate, in one program."""

import functools

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import dspsx
from dspsx.compressed import examples

BANDS = ("galex_nuv", "lsst_r", "wise_w1")
RANGE = (0.4, 0.45)


@functools.cache
def full():
    return dspsx.GalaxySEDModel(
        sfh=dspsx.WithBurst(dspsx.DelayedTauSFH()),
        metallicity=dspsx.AgeCorrelatedMDF(),
        dust=dspsx.CharlotFall00(diffuse=dspsx.Salim18()),
        dust_emission=dspsx.Casey12(),
        lines=dspsx.NebularLines(),
        igm=dspsx.Inoue14(),
        filters=dspsx.FilterSet.load(BANDS),
        redshift=RANGE[0],
    )


@functools.cache
def compressed(ranged):
    return full().compress(redshift=RANGE if ranged else RANGE[0], n_galaxies=200, progress=False)


def draw(n, seed, ranged):
    rng = np.random.default_rng(seed)
    galaxies = examples.draw(full(), rng, n)
    z = rng.uniform(*RANGE, n) if ranged else np.full(n, RANGE[0])
    return eqx.tree_at(lambda g: g.redshift, galaxies, jnp.asarray(z, full().redshift.dtype))


@eqx.filter_jit
def look(batch):
    """Magnitudes, the luminosity of the dust, and the gradient of the magnitudes' sum."""

    def one(galaxy):
        theta, rest = dspsx.partition(galaxy, lambda g: (g.sfh, g.metallicity, g.dust, g.lines), physical=True)
        slope = jax.grad(lambda theta: dspsx.combine(theta, rest, physical=True).magnitudes().sum())(theta)
        return galaxy.magnitudes(), galaxy.dust_luminosity(), slope

    return eqx.filter_vmap(one, in_axes=(dspsx.batch_axes(batch),))(batch)


@pytest.mark.parametrize("ranged", [False, True], ids=["one redshift", "a range"])
def test_compressed(ranged):
    small = compressed(ranged)
    certificate = small.ssp.certificate
    assert certificate.worst_mmag <= certificate.tol_mmag == 1.0
    galaxies = draw(100, 11, ranged)
    exact, energy, _ = look(galaxies)
    found, small_energy, slopes = look(eqx.tree_at(lambda g: g.ssp, galaxies, small.ssp))
    seen = np.asarray(exact) < 80
    assert seen.mean() > 0.9
    assert np.abs(np.asarray(found) - np.asarray(exact))[seen].max() <= 1e-3
    np.testing.assert_allclose(small_energy, energy, rtol=1e-3, atol=1e-3 * float(jnp.median(energy)))
    assert all(np.isfinite(x).all() for x in jax.tree.leaves(slopes))


def test_one_program():
    """New values of any parameter compile nothing."""
    compiled = []

    def heard(event, seconds, **_):
        if event.endswith("backend_compile_duration"):
            compiled.append(event)

    first, second = draw(3, 1, True), draw(3, 2, True)
    look(first)
    jax.monitoring.register_event_duration_secs_listener(heard)
    look(second)
    assert not compiled
    eqx.filter_jit(lambda x: x * 1.2345)(jnp.ones(7))
    assert compiled, "compilations are not heard"
