"""What dust absorbs, and emits again: in full and compressed, in spectra and bands."""

import dataclasses
import itertools

import jax.numpy as jnp
import numpy as np

import dspsx
from dspsx.ssp import widths_in_hertz

C = 2.99792458e18


def galaxy(**given):
    given = {"dust": dspsx.CharlotFall00(), "dust_emission": dspsx.Casey12(), "redshift": 0.1} | given
    return dspsx.GalaxySEDModel(**given)


def in_hertz(wave, sed):
    """Integral over frequency of what is straight between points in wavelength, each interval in twenty."""
    wave, sed = np.asarray(wave, float), np.asarray(sed, float)
    fine = np.interp(np.arange(20 * (wave.size - 1) + 1) / 20, np.arange(wave.size), wave)
    return np.trapezoid(np.interp(fine, wave, sed)[::-1], C / fine[::-1])


def test_widths_in_hertz_integrate_straight_lines(x64):
    wave = jnp.array([100.0, 130.0, 131.0, 150.0])
    light = jnp.array([1.0, 3.0, 2.0, 5.0])
    fine = np.unique(np.concatenate([np.linspace(a, b, 20001) for a, b in itertools.pairwise(wave)]))
    expected = in_hertz(fine, np.interp(fine, wave, light))
    np.testing.assert_allclose((widths_in_hertz(wave) * light).sum(), expected, rtol=2e-6)


def test_samples_are_the_mean_in_the_band(x64):
    filters = dspsx.FilterSet.load(["lsst_*", "wise_*", "galex_nuv"])
    fine = jnp.asarray(np.geomspace(1000.0, 4e5, 100_000))
    for power in (-2.0, 1.0, 4.0):
        exact = filters.band_average(fine, (fine / 1e4) ** power)
        wave, weight = filters.samples()
        found = (weight * (wave / 1e4) ** power).sum(1)
        np.testing.assert_allclose(found, exact, rtol=2e-3)


def test_energy_is_conserved(precision):
    """What is missing from the stars' spectrum is the luminosity of the dust, and what the dust emits in all."""
    one = galaxy()
    clear = dataclasses.replace(one, dust=dspsx.NoDust(), dust_emission=None)
    dusty = dataclasses.replace(one, dust_emission=None)
    wave = np.asarray(one.ssp.wave, float)
    missing = in_hertz(wave, clear.rest_sed()) - in_hertz(wave, dusty.rest_sed())
    np.testing.assert_allclose(one.dust_luminosity(), missing, rtol=1e-3)
    fine = jnp.asarray(np.geomspace(1e4, 1e8, 20_000))
    emitted = float(one.dust_luminosity()) * in_hertz(fine, one.dust_emission.spectrum(fine))
    np.testing.assert_allclose(emitted, one.dust_luminosity(), rtol=1e-3)


def test_no_dust_emits_nothing():
    one = galaxy(dust=dspsx.NoDust())
    assert float(one.dust_luminosity()) == 0.0
    np.testing.assert_array_equal(one.magnitudes(), dataclasses.replace(one, dust_emission=None).magnitudes())


def test_bands_are_those_of_the_spectrum(x64):
    """Where the grid has enough points for it, the spectrum and the samples of the bands agree."""
    one = galaxy(filters=dspsx.FilterSet.load(["wise_w3", "wise_w4"]))
    fine = jnp.asarray(np.geomspace(2e4, 4e5, 20_000))
    emitted = one.dust_luminosity() * one.dust_emission.spectrum(fine)
    stars = dataclasses.replace(one, dust_emission=None)
    expected = (
        one.filters.band_average(fine, emitted, 0.1) * one.cosmology.dimming(one.redshift) / dspsx.units.AB_LSUN_HZ
    )
    np.testing.assert_allclose(one.fluxes() - stars.fluxes(), expected, rtol=3e-3)
