"""A galaxy with all that a galaxy can have, on the embedded grid: compressed within its certificate, in one program."""

import functools

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

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


def draw(seed, n=60):
    rng = np.random.default_rng(seed)
    z = jnp.asarray(rng.uniform(*RANGE, n), full().redshift.dtype)
    return eqx.tree_at(lambda g: g.redshift, examples.draw(full(), rng, n), z)


@eqx.filter_jit
def look(batch):
    """Magnitudes, and the luminosity of the dust."""
    one = lambda galaxy: (galaxy.magnitudes(), galaxy.dust_luminosity())  # noqa: E731
    return eqx.filter_vmap(one, in_axes=(dspsx.batch_axes(batch),))(batch)


def test_compressed():
    small = full().compress(redshift=RANGE, n_galaxies=100, progress=False)
    certificate = small.ssp.certificate
    assert certificate.worst_mmag <= certificate.tol_mmag == 1.0
    galaxies = draw(11)
    exact, energy = look(galaxies)
    found, small_energy = look(eqx.tree_at(lambda g: g.ssp, galaxies, small.ssp))
    seen = np.asarray(exact) < 80
    assert seen.mean() > 0.9
    assert np.abs(np.asarray(found) - np.asarray(exact))[seen].max() <= 1e-3
    np.testing.assert_allclose(small_energy, energy, rtol=1e-3, atol=1e-3 * float(jnp.median(energy)))


def test_one_program():
    """New values of any parameter compile nothing."""
    compiled = []

    def heard(event, seconds, **_):
        if event.endswith("backend_compile_duration"):
            compiled.append(event)

    first, second = draw(1), draw(2)
    look(first)
    jax.monitoring.register_event_duration_secs_listener(heard)
    look(second)
    assert not compiled
    eqx.filter_jit(lambda x: x * 1.2345)(jnp.ones(7))
    assert compiled, "compilations are not heard"
