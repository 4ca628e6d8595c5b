"""Dust made of other dust: birth clouds, and a bump tied to the slope."""

import jax.numpy as jnp
import numpy as np
import pytest

import dspsx
from dspsx import testing
from tests.parity import peers

WAVE = np.geomspace(950.0, 2.5e4, 300)


def test_kriek_conroy(peer, x64):
    for delta in (-1.2, -0.4, 0.0, 0.3):
        law = dspsx.KriekConroy13(av=1.3, delta=delta)
        expected = peer(peers.dsps_kriek_conroy, WAVE / 1e4, 1.3, delta)
        np.testing.assert_allclose(law.attenuation(jnp.asarray(WAVE)), expected, rtol=1e-6)
        tied = dspsx.Noll09(av=1.3, delta=delta, bump=0.85 - 1.9 * delta)
        np.testing.assert_allclose(law.attenuation(jnp.asarray(WAVE)), tied.attenuation(jnp.asarray(WAVE)), rtol=1e-12)


def test_young_stars_are_behind_both(precision):
    lg_age = jnp.asarray([-3.5, -2.3, -2.0, -1.7, 1.0], float)
    wave = jnp.asarray([1500.0, 5500.0, 2e4], float)
    dust = dspsx.CharlotFall00(dspsx.Calzetti00(av=0.4), dspsx.PowerLawDust(av=0.9, slope=-1.3))
    share, transmission = dust.checked_screens(wave, lg_age)
    np.testing.assert_allclose(share.sum(0), 1.0, rtol=1e-6)
    np.testing.assert_allclose(share[1], [1, 1, 0.5, 0, 0], atol=1e-6)
    a = np.asarray(dspsx.Calzetti00(av=0.4).attenuation(wave), float)
    b = 0.9 * (np.asarray(wave, float) / 5500.0) ** -1.3
    np.testing.assert_allclose(transmission, 10 ** (-0.4 * np.stack([a, a + b])), rtol=2e-6)


def test_lines_are_behind_the_clouds():
    """Line-emitting gas is as young as the stars that ionise it."""
    ssp = testing.fake_ssp(n_age=60)
    clouds = dspsx.CharlotFall00(dspsx.PowerLawDust(av=0.2), dspsx.PowerLawDust(av=1.0), lg_age_cloud=-1.0)
    galaxy = testing.fake_galaxy(ssp=ssp, dust=clouds, lines=dspsx.NebularLines(ssp))
    bare = dspsx.replace(galaxy, lambda g: g.dust, dspsx.NoDust())
    through = np.asarray(galaxy.line_luminosities() / bare.line_luminosities(), float)
    wave = np.asarray(galaxy.lines.wave, float)
    np.testing.assert_allclose(through, 10 ** (-0.4 * 1.2 * (wave / 5500.0) ** -0.7), rtol=1e-4)
    stars = np.asarray(galaxy.rest_sed() / bare.rest_sed(), float)
    known = (wave > 2000) & (wave < 4e4)
    assert (np.interp(wave[known], np.asarray(ssp.wave), stars) > through[known]).all()


def test_partial_cover_and_what_is_refused():
    covered = dspsx.PartialCover(dspsx.CharlotFall00(), covering=0.5)
    share, transmission = covered.checked_screens(jnp.asarray([5500.0]), jnp.asarray([-3.0, 0.0]))
    bare = dspsx.CharlotFall00().screens(jnp.asarray([5500.0]), jnp.asarray([-3.0, 0.0]))[1]
    np.testing.assert_allclose(transmission, 0.5 + 0.5 * bare, rtol=1e-6)
    assert share.shape == (2, 2)
    with pytest.raises(TypeError, match=r"CharlotFall00\.birth_cloud must be a DustLaw"):
        dspsx.CharlotFall00(dspsx.NoDust(), dspsx.PartialCover())
