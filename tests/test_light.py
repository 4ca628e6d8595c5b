"""Observables that share what they have in common: the same numbers, and one contraction with the SSP grid."""

import dataclasses
import re

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import dspsx
from dspsx import testing

BANDS = ["galex_nuv", "lsst_r", "wise_w1"]
ASKED = ("rest_sed", "magnitudes", "rest_magnitudes", "line_fluxes", "equivalent_widths", "dust_luminosity")


@pytest.fixture(scope="module")
def galaxy():
    return dspsx.GalaxySEDModel(
        sfh=dspsx.DelayedTauSFH(),
        dust=dspsx.CharlotFall00(),
        dust_emission=dspsx.Casey12(),
        lines=dspsx.NebularLines(),
        igm=dspsx.Inoue14(),
        filters=dspsx.FilterSet.load(BANDS),
        redshift=0.7,
    )


def test_same_numbers_as_the_galaxys_own_methods(galaxy):
    @eqx.filter_jit
    def together(galaxy):
        light = galaxy.light()
        return {name: getattr(light, name)() for name in ASKED}

    for name, value in together(galaxy).items():
        expected = np.asarray(eqx.filter_jit(lambda galaxy, name=name: getattr(galaxy, name)())(galaxy))
        # float32, and faint ultraviolet light relative to the rest of the spectrum; lines beyond it have no equivalent width
        np.testing.assert_allclose(value, expected, rtol=3e-5, atol=1e-6 * np.nanmax(np.abs(expected)), err_msg=name)


@pytest.mark.parametrize("differentiate", [lambda f: f, jax.grad], ids=["value", "gradient"])
def test_one_contraction_with_the_grid(galaxy, differentiate):
    """Also where the compiler merges nothing: in a loop, and in a derivative."""
    galaxy = dataclasses.replace(galaxy, dust_emission=None, lines=None)

    def products(observe):
        def one(age):
            return observe(dspsx.replace(galaxy, lambda g: g.sfh.age, age))

        program = jax.jit(lambda x: jax.lax.map(differentiate(one), x, batch_size=4))
        text = program.lower(jnp.linspace(1.0, 5.0, 12)).compile().as_text()
        wave = galaxy.ssp.wave.size
        return len(re.findall(rf"= f32\[[\d,]*\b{wave}\]\S* dot\(", text))

    def together(g):
        light = g.light()
        return light.rest_sed().sum() + light.magnitudes().sum()

    alone, both = products(lambda g: g.magnitudes().sum()), products(together)
    assert alone > 0 and both <= alone + (differentiate is jax.grad)


def test_one_galaxy_only(galaxy):
    batch = dspsx.stack([galaxy, galaxy])
    with pytest.raises(ValueError, match="vmap"):
        batch.light()


def test_a_galaxy_without_lines_or_spectrum_says_so(galaxy):
    with pytest.raises(TypeError, match="no emission lines"):
        dataclasses.replace(galaxy, lines=None).light().line_luminosities()
    small = testing.fake_galaxy().compress(n_galaxies=20, progress=False)
    with pytest.raises(TypeError, match="no spectrum"):
        small.light().rest_sed()
    magnitudes = eqx.filter_jit(lambda small: small.light().magnitudes())(small)
    np.testing.assert_allclose(magnitudes, small.magnitudes(), rtol=1e-6)


class Shifted(dspsx.SSPLibrary):
    """A grid that samples at the galaxy's redshift what is seen of it from 3000 to 9500 A."""

    grid: dspsx.SSPGrid
    lg_age: jax.Array = dspsx.data()
    lgmet: jax.Array = dspsx.data()

    def sampling(self, redshift):
        return jnp.linspace(3000.0, 9500.0, 200) / (1.0 + redshift)

    def integrate(self, weights, redshift=0.0):
        seen = lambda light: jnp.interp(self.sampling(redshift), self.grid.wave, light)  # noqa: E731
        return jax.vmap(seen)(self.grid.integrate(weights))

    def spectrum_wave(self):
        return self.sampling(0.0)

    def band_average(self, filters, light, redshift):
        return filters.band_average(self.sampling(redshift), light, redshift)


def test_a_library_that_samples_by_redshift_has_its_spectrum_at_rest():
    grid = dspsx.SSPGrid.default()
    full = dspsx.GalaxySEDModel(sfh=dspsx.DelayedTauSFH(), dust=dspsx.Calzetti00(), redshift=0.5)
    galaxy = dataclasses.replace(full, ssp=Shifted(grid=grid, lg_age=grid.lg_age, lgmet=grid.lgmet))
    expected = jnp.interp(galaxy.ssp.spectrum_wave(), grid.wave, full.rest_sed())
    np.testing.assert_allclose(galaxy.rest_sed(), expected, rtol=1e-2)


class RedGlow(dspsx.DustEmission):
    """An emission that is not known below 2 micron."""

    def spectrum(self, wave):
        return jnp.where(wave < 2e4, jnp.nan, 1e-13)


def test_what_is_unknown_in_one_band_leaves_the_others():
    filters = dspsx.FilterSet.load(["lsst_r", "wise_w1"])
    galaxy = dspsx.GalaxySEDModel(dust=dspsx.Calzetti00(), dust_emission=RedGlow(), filters=filters)
    assert np.isnan(np.asarray(galaxy.magnitudes())).tolist() == [True, False]
