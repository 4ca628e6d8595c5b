"""Spectra as observed, against sums over fine grids in float64, closed forms, and finite differences."""

import math
import pickle
import warnings

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
from jax.test_util import check_grads

import dspsx
from dspsx import testing, units
from dspsx._model import Scalar, param
from dspsx._numerics import crowding
from dspsx.spectroscopy import Instrument, air_to_vacuum, vacuum_to_air

#: The fake grid has a point every few hundred Angstrom.
pytestmark = pytest.mark.filterwarnings("ignore:.* the SSP library has a point every")

C_KMS = 299792.458
FWHM = 2.0 * math.sqrt(2.0 * math.log(2.0))
Z = 0.2345

rng = np.random.default_rng(7)
#: A rough spectrum, of unequal steps: coarse in the ultraviolet, with a jump at 3000 A, 1 A wide in the optical.
WAVE = np.concatenate([np.arange(2000.0, 3000.0, 10.0), [3000.0, 3000.01], np.arange(3001.0, 7000.0, 1.0)])
FLUX = (1.0 + 0.3 * np.sin(WAVE / 200.0) + 0.2 * rng.standard_normal(WAVE.size).clip(-2, 2)) * np.where(
    WAVE > 3000.005, 1, 0.2
)

phi = scipy.special.ndtr


def brute(wave, f_nu, edges, sigma, z):
    """Mean f_nu of each pixel: the spectrum cut in pieces far narrower than everything else, each of which spreads by itself.

    `sigma` is in ln(wavelength), at the edges.
    """
    x = wave * (1 + z)
    lo, hi = edges[0] * (1 - 9 * sigma.max()), edges[-1] * (1 + 9 * sigma.max())
    corners = np.concatenate([[lo], x[(x > lo) & (x < hi)], [hi]])
    parts = np.maximum(8, np.ceil(np.diff(corners) / (sigma.min() * lo / 16.0))).astype(int)
    cuts = [np.linspace(a, b, n, endpoint=False) for a, b, n in zip(corners[:-1], corners[1:], parts, strict=True)]
    cuts = np.concatenate([*cuts, [hi]])
    middle = 0.5 * (cuts[1:] + cuts[:-1])
    energy, y = np.interp(middle, x, f_nu) * (1 / cuts[:-1] - 1 / cuts[1:]), np.log(middle)
    total = np.concatenate([[0.0], np.cumsum(energy)])
    below = np.empty(edges.size)
    for i, (e, s) in enumerate(zip(np.log(edges), sigma, strict=True)):
        lo, hi = np.searchsorted(y, (e - 8 * s, e + 8 * s))
        below[i] = total[lo] + (energy[lo:hi] * phi((e - y[lo:hi]) / s)).sum()
    return np.diff(below) / (1 / edges[:-1] - 1 / edges[1:])


def energy(instrument, f_nu):
    edges = np.asarray(instrument.edges, float)
    return float((np.asarray(f_nu, float) * (1 / edges[:-1] - 1 / edges[1:])).sum())


@eqx.filter_jit
def average(instrument, wave, f_nu, z, sigma):
    return instrument.pixel_average(wave, f_nu, z, sigma, CROWDS)


CROWDS = crowding(WAVE)


def seen(instrument, sigma=0.0, z=Z):
    return np.asarray(average(instrument, *(jnp.asarray(x, float) for x in (WAVE, FLUX, z, sigma))))


class Lines(dspsx.EmissionLines):
    """Two strong lines behind the dust of young stars, a weak one, and one that no instrument here sees."""

    strength: Scalar = param(50.0, bounds=(0.0, 200.0), unit="Lsun/Msun", doc="luminosity of each line")

    def luminosities(self, ssp, weights):
        wave = jnp.asarray([4862.68, 5008.24, 6549.86, 9071.1], weights.dtype)
        young = weights.sum(1) @ jnp.where(ssp.lg_age < -2.0, 1.0, 0.0)
        return wave, young[:, None] * (self.strength * jnp.asarray([[1.0, 3.0, 0.1, 2.0]], weights.dtype))


class Fog(dspsx.IGM):
    depth: Scalar = param(0.7, bounds=(0.0, 3.0), doc="optical depth at every wavelength")

    def transmission(self, wave, redshift):
        return jnp.full_like(wave, 1.0) * jnp.exp(-self.depth)


# --- air and vacuum ---------------------------------------------------------------------------------------------


# published pairs (air, vacuum) to 0.01 A: SDSS, "Table of spectral lines used"; NIST for Na D2
@pytest.mark.parametrize(
    ("air", "vacuum"),
    [(3726.03, 3727.09), (4861.33, 4862.69), (5006.84, 5008.24), (5889.95, 5891.58), (6562.80, 6564.61)],
)
def test_air_and_vacuum_of_published_lines(air, vacuum, precision):
    np.testing.assert_allclose(vacuum_to_air(vacuum), air, atol=0.011, rtol=0)
    np.testing.assert_allclose(air_to_vacuum(air), vacuum, atol=0.011, rtol=0)


def test_air_agrees_with_another_formula(x64):
    """Birch & Downs 1994 as Morton (2000, ApJS 130, 403, eq. 8) gives it: within 1e-4 A from 3000 A to 1 micron."""
    wave = np.linspace(3000.0, 1e4, 500)
    s2 = (1e4 / wave) ** 2
    index = 1 + 8.34254e-5 + 2.406147e-2 / (130.0 - s2) + 1.5998e-4 / (38.9 - s2)
    np.testing.assert_allclose(vacuum_to_air(wave), wave / index, atol=1e-4, rtol=0)


def test_air_and_vacuum_round_trip(precision):
    wave = jnp.asarray(np.concatenate([np.linspace(900.0, 1990.0, 20), np.linspace(2005.0, 25000.0, 400)]), precision)
    back = air_to_vacuum(vacuum_to_air(wave))
    bits = 2.0 * np.spacing(np.asarray(wave)) if precision == "float32" else 1e-9
    assert (np.abs(back - wave) <= bits).all()
    np.testing.assert_array_equal(vacuum_to_air(wave)[:20], wave[:20])
    slope = jax.vmap(jax.grad(vacuum_to_air))(wave)
    assert np.isfinite(slope).all() and (np.abs(slope - 1) < 1e-3).all()


# --- continuum --------------------------------------------------------------------------------------------------


def varying(edges):
    """sigma in Angstrom of each pixel, and in ln(wavelength) at the edges, of a resolution that doubles along the spectrum."""
    middle = 0.5 * (edges[1:] + edges[:-1])
    per_pixel = middle / (1000.0 + 1000.0 * (middle - edges[0]) / (edges[-1] - edges[0])) / FWHM
    return {"sigma": per_pixel}, np.interp(edges, middle, per_pixel / middle)


CASES = {
    "wide pixels": (np.arange(5000.0, 8000.0, 7.0), {"resolution": 1000.0}, 200.0),
    "narrow pixels": (np.arange(6000.0, 6400.0, 0.8), {"resolution": 4000.0}, 150.0),
    "no dispersion": (np.arange(6000.0, 6400.0, 0.8), {"resolution": 4000.0}, 0.0),
    "dispersion alone": (np.arange(6000.0, 6200.0, 0.7), {"sigma_kms": 0.0}, 250.0),
    "narrower than the points": (np.arange(6000.0, 6060.0, 0.1), {"resolution": 20000.0}, 5.0),
    "coarse points, a jump": (np.arange(3300.0, 4000.0, 1.3), {"resolution": 3000.0}, 100.0),
    "a prism": (np.geomspace(3300.0, 8000.0, 90), {"resolution": 60.0}, 300.0),
    "varies": (np.arange(5000.0, 8000.0, 3.0), None, 80.0),
    "one pixel": (np.array([5000.0, 5100.0]), {"resolution": 1000.0}, 100.0),
}


@pytest.mark.parametrize("case", CASES)
def test_continuum_against_brute_force(case, precision):
    edges, spread, sigma = CASES[case]
    if spread is None:
        spread, ln = varying(edges)
    else:
        ln = np.full(
            edges.size, 1 / spread["resolution"] / FWHM if "resolution" in spread else spread["sigma_kms"] / C_KMS
        )
    instrument = Instrument(edges=edges, **spread)
    expected = brute(WAVE, FLUX, edges, np.sqrt(ln**2 + (sigma / C_KMS) ** 2), Z)
    found = seen(instrument, sigma)
    assert found.dtype == precision
    np.testing.assert_allclose(
        found, expected, rtol=0, atol=(2e-4 if precision == "float64" else 1e-3) * expected.max()
    )
    there = float((expected * (1 / edges[:-1] - 1 / edges[1:])).sum())
    assert abs(energy(instrument, found) / there - 1) < (1e-6 if precision == "float64" else 1e-5)


def test_width_of_zero_gives_plain_bins(x64):
    """The integral of a spectrum that is linear between its points, by its own closed form, without any broadening."""
    edges = np.arange(5000.0, 6000.0, 3.3)
    x = WAVE * (1 + Z)
    slope = np.diff(FLUX) / np.diff(x)

    def up_to(e):
        j = np.searchsorted(x, e, side="right") - 1
        lo, hi = x[: j + 1], np.append(x[1 : j + 1], e)
        b = slope[: j + 1]
        return ((FLUX[: j + 1] - b * lo) * (1 / lo - 1 / hi) + b * np.log(hi / lo)).sum()

    expected = np.diff([up_to(e) for e in edges]) / (1 / edges[:-1] - 1 / edges[1:])
    found = seen(Instrument(edges=edges, sigma=0.0))
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)  # 0.3 km/s is as narrow as it gets
    wider = seen(Instrument(edges=edges, sigma=0.0), sigma=30.0)
    assert np.abs(wider - expected).max() > 1e-3


def test_edges_of_pixels_that_fall_on_points(precision):
    """Nothing counts twice, nothing is missed; a flat spectrum stays flat."""
    wave = np.arange(4000.0, 6000.0, 5.0)
    instrument = Instrument(edges=np.arange(4500.0, 5500.0, 5.0), sigma=0.0)
    args = (jnp.asarray(wave, float), jnp.ones(wave.size, float), jnp.zeros((), float), jnp.zeros((), float))
    np.testing.assert_allclose(average(instrument, *args), 1.0, rtol=3e-6 if precision == "float32" else 1e-9)


def test_width_of_a_broadened_spike(x64):
    """The second moment in ln(wavelength) of a spike is that of instrument and dispersion, in quadrature."""
    wave = np.concatenate([[3000.0, 4999.99, 5000.0, 5000.01], [9000.0]])
    spike = np.array([0.0, 0.0, 1.0, 0.0, 0.0])
    edges = np.exp(np.arange(math.log(4800.0), math.log(5200.0), 1e-5))
    for resolution, sigma in ((2000.0, 0.0), (2000.0, 300.0), (500.0, 400.0)):
        f = Instrument(edges=edges, resolution=resolution).pixel_average(
            jnp.asarray(wave), jnp.asarray(spike), 0.0, sigma
        )
        light, y = np.asarray(f) * (1 / edges[:-1] - 1 / edges[1:]), 0.5 * np.log(edges[1:] * edges[:-1])
        assert abs(light.sum() * 5000.0**2 / 0.01 - 1) < 1e-4
        mean = (light * y).sum() / light.sum()
        width = math.sqrt((light * (y - mean) ** 2).sum() / light.sum())
        assert abs(mean - math.log(5000.0)) < 1e-7
        np.testing.assert_allclose(width, math.hypot(1 / resolution / FWHM, sigma / C_KMS), rtol=1e-4)


def test_the_library_is_removed_in_quadrature(x64):
    """Its FWHM is at rest: at redshift z, in ln(wavelength), that of the emitted wavelength."""
    edges = np.arange(6000.0, 6600.0, 1.0)
    fwhm = 2.5
    instrument = Instrument(edges=edges, resolution=1500.0, library_fwhm=fwhm)
    library = fwhm / FWHM / (edges / (1 + Z))
    ln = np.sqrt((1 / 1500.0 / FWHM) ** 2 + (120.0 / C_KMS) ** 2 - library**2)
    np.testing.assert_allclose(instrument.width(Z, 120.0), ln, rtol=1e-12)
    expected = brute(WAVE, FLUX, edges, ln, Z)
    np.testing.assert_allclose(seen(instrument, 120.0), expected, atol=1e-4 * expected.max(), rtol=0)
    table = Instrument(edges=edges, resolution=1500.0, library_fwhm=([3000.0, 9000.0], [fwhm, fwhm]))
    np.testing.assert_allclose(seen(table, 120.0), seen(instrument, 120.0), rtol=1e-12)


def test_a_library_with_too_few_points_is_told():
    """Where neither the line-spread function, nor the dispersion, nor the pixels are as wide as its steps."""
    ssp = testing.fake_galaxy().ssp
    step = float(np.diff(ssp.wave)[np.searchsorted(ssp.wave, 5500.0) - 1])
    galaxy, edges = testing.fake_galaxy(redshift=0.0), np.arange(5400.0, 5600.0, 2.0)
    with pytest.warns(UserWarning, match=f"100% of the pixels .* a point every {step:.3g} A, .* resolves 10:"):
        Instrument(edges=edges, sigma=10.0 / 2.3548).observe(galaxy)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Instrument(edges=edges, sigma=1.3 * step / 2.3548).observe(galaxy)
        Instrument(edges=5000.0 + 1.3 * step * np.arange(4), sigma=0.0).observe(galaxy)


def test_a_library_too_coarse_keeps_its_resolution():
    galaxy = testing.fake_galaxy()
    coarse = Instrument(edges=np.arange(5000.0, 6000.0, 2.0), resolution=5000.0, library_fwhm=5.0)
    with pytest.warns(UserWarning, match="coarser than instrument and dispersion at 100% of the pixels"):
        found = coarse.observe(galaxy)
    plain = Instrument(edges=np.arange(5000.0, 6000.0, 2.0), sigma=0.0)
    np.testing.assert_allclose(found, plain.observe(galaxy), rtol=1e-5)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        coarse.observe(galaxy, sigma_stars=300.0)


@pytest.mark.parametrize("max_sigma", [50.0, 500.0])
def test_the_window_reaches_far_enough(max_sigma, x64):
    """Up to the largest dispersion allowed, the few points looked at give what all points give."""
    spectrum = jnp.asarray(WAVE), jnp.asarray(FLUX)
    all_of_them = eqx.filter_jit(lambda i, z, sigma: i.pixel_average(*spectrum, z, sigma))
    for edges in (np.arange(5000.0, 5100.0, 0.9), np.geomspace(3300, 7000, 60)):
        instrument, sigma = Instrument(edges=edges, resolution=300.0, max_sigma=max_sigma), jnp.asarray(max_sigma)
        for z in jnp.asarray([0.1, Z, 0.3]):
            few = average(instrument, *spectrum, z, sigma)
            np.testing.assert_allclose(few, all_of_them(instrument, z, sigma), rtol=1e-7)


def test_derivatives_of_the_continuum(x64):
    """By redshift, dispersion, resolution and spectrum, against finite differences."""
    instrument = Instrument(edges=np.arange(6000.0, 6080.0, 2.5), resolution=2000.0, library_fwhm=2.0)

    def f(z, sigma, width, scale):
        changed = eqx.tree_at(lambda i: i.sigma, instrument, instrument.sigma * width)
        return changed.pixel_average(jnp.asarray(WAVE), jnp.asarray(FLUX) ** scale, z, sigma, CROWDS)

    args = tuple(jnp.asarray(x) for x in (Z, 140.0, 1.1, 1.2))
    check_grads(jax.jit(f), args, order=1, modes=["fwd", "rev"], eps=1e-6, rtol=1e-4)
    step = 1e-6
    by_z = jax.jvp(lambda z: f(z, *args[1:]), (args[0],), (jnp.ones(()),))[1]
    difference = (f(Z + step, *args[1:]) - f(Z - step, *args[1:])) / (2 * step)
    np.testing.assert_allclose(by_z, difference, rtol=0, atol=1e-5 * np.abs(difference).max())
    assert np.abs(by_z).max() > 1.0


def test_gradient_at_dispersion_zero(precision):
    instrument = Instrument(edges=np.arange(6000.0, 6200.0, 2.5), sigma=0.0)
    f = lambda sigma: instrument.pixel_average(jnp.asarray(WAVE, float), jnp.asarray(FLUX, float), Z, sigma)  # noqa: E731
    slope = jax.jvp(f, (jnp.zeros((), float),), (jnp.ones((), float),))[1]
    np.testing.assert_array_equal(slope, 0.0)


# --- lines ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("resolution", "gas"), [(3000.0, 0.0), (3000.0, 200.0), (100.0, 50.0), (50000.0, 0.0)])
def test_flux_of_lines_is_conserved(resolution, gas, precision):
    edges = np.arange(5000.0, 8000.0, 1.7)
    instrument = Instrument(edges=edges, resolution=resolution)
    lines = np.array([4862.68, 5008.24, 6000.0]), np.array([1.0, 3.0, 2.0])
    f_nu = instrument.line_average(*(jnp.asarray(x, float) for x in lines), Z, gas)
    # per Hz at rest, which are 1 + z times as many as are observed
    total = energy(instrument, f_nu) * units.C_ANGSTROM * (1 + Z)
    assert f_nu.dtype == precision
    assert abs(total / lines[1].sum() - 1) < (1e-6 if precision == "float64" else 1e-5)


def test_profile_of_a_line(x64):
    """A Gaussian in ln(wavelength), at its place, of the widths in quadrature: pixel by pixel."""
    edges = np.arange(5900.0, 6100.0, 0.5)
    instrument = Instrument(edges=edges, resolution=1800.0)
    f_nu = instrument.line_average(jnp.asarray([6000.0 / 1.5]), jnp.asarray([1.0]), 0.5, 170.0)
    s = math.hypot(1 / 1800.0 / FWHM, 170.0 / C_KMS)
    share = np.diff(phi(np.log(edges / 6000.0) / s))
    expected = share / (units.C_ANGSTROM * (1 / edges[:-1] - 1 / edges[1:])) / 1.5
    np.testing.assert_allclose(f_nu, expected, atol=1e-6 * expected.max(), rtol=0)


def test_a_line_beyond_the_pixels_leaves_nothing(precision):
    instrument = Instrument(edges=np.arange(5000.0, 6000.0, 2.0), resolution=1000.0)
    for wave in (3000.0, 4900.0, 6100.0, 9000.0):
        f_nu = instrument.line_average(jnp.asarray([wave], float), jnp.asarray([1e30], float))
        np.testing.assert_array_equal(f_nu, 0.0)


def test_derivatives_of_lines(x64):
    instrument = Instrument(edges=np.arange(5900.0, 6100.0, 2.5), resolution=2000.0)
    f = lambda z, gas, light: instrument.line_average(jnp.asarray([4000.0, 4020.0]), light, z, gas) * 1e15  # noqa: E731
    args = jnp.asarray(0.5), jnp.asarray(120.0), jnp.asarray([1.0, 2.0])
    check_grads(jax.jit(f), args, order=1, modes=["fwd", "rev"], eps=3e-7, rtol=2e-5)


# --- galaxies ---------------------------------------------------------------------------------------------------


def lined(**ingredients):
    return testing.fake_galaxy(lines=Lines(), dust=dspsx.Calzetti00(av=0.6), igm=Fog(), **ingredients)


def test_observe_puts_stars_and_lines_together(precision):
    """The continuum is that of `observed_sed`; lines come with the flux that their luminosity, dust and distance give."""
    galaxy = lined(redshift=0.3)
    instrument = Instrument(edges=np.arange(5000.0, 9500.0, 2.0), resolution=2500.0)
    both = np.asarray(instrument.observe(galaxy, sigma_stars=150.0, sigma_gas=60.0, unit="f_lambda"), float)
    stars = np.asarray(
        instrument.observe(testing.fake_galaxy(dust=galaxy.dust, igm=galaxy.igm), sigma_stars=150.0, unit="f_lambda"),
        float,
    )
    wave = np.asarray(galaxy.observed_wave, float)
    f_nu = np.asarray(galaxy.observed_sed("cgs"), float)
    edges = np.asarray(instrument.edges, float)
    ln = np.full(edges.size, math.hypot(1 / 2500.0 / FWHM, 150.0 / C_KMS))
    middle = edges[1:] * edges[:-1]
    expected = brute(wave, f_nu, edges, ln, 0.0) * units.C_ANGSTROM / middle
    np.testing.assert_allclose(stars, expected, rtol=1e-4)

    rest, luminosity = galaxy.lines.luminosities(galaxy.ssp, galaxy.weights()[None])
    av = np.asarray(galaxy.dust.transmission(rest), float)
    distance = float(galaxy.cosmology.luminosity_distance(0.3)) * 1e6 * units.PC_CM
    flux = np.asarray(luminosity[0], float) * av * math.exp(-0.7) * units.LSUN_CGS / (4 * math.pi * distance**2)
    line = (both - stars) * np.diff(edges)
    for i, at in enumerate(np.asarray(rest)[:3] * 1.3):
        near = np.abs(instrument.wave - at) < 30
        np.testing.assert_allclose(line[near].sum(), flux[i], rtol=1e-4 if precision == "float64" else 1e-3)
    assert (line[np.abs(np.asarray(instrument.wave) - 7600.0) < 500] <= 1e-6 * line.max()).all()


def test_units_agree(x64):
    galaxy = lined()
    instrument = Instrument(np.arange(5000.0, 9000.0, 5.0), resolution=1000.0)
    maggies = instrument.observe(galaxy, sigma_stars=200.0)
    np.testing.assert_allclose(instrument.observe(galaxy, sigma_stars=200.0, unit="uJy"), maggies * 3631e6, rtol=1e-12)
    edges = np.asarray(instrument.edges)
    f_lambda = maggies * 3631e-23 * units.C_ANGSTROM / (edges[1:] * edges[:-1])
    np.testing.assert_allclose(instrument.observe(galaxy, sigma_stars=200.0, unit="f_lambda"), f_lambda, rtol=1e-12)


def test_a_wide_band_of_pixels_is_photometry(x64):
    """Pixels summed under a filter give the band's flux, lines included: two ways to integrate the same spectrum."""
    galaxy = lined()
    instrument = Instrument(edges=np.arange(4000.0, 7200.0, 0.5), resolution=5000.0)
    f_nu = instrument.observe(galaxy, sigma_stars=50.0, sigma_gas=30.0)
    pixels = dspsx.FilterSet.band_average(testing.fake_filters(), instrument.wave, f_nu)
    np.testing.assert_allclose(pixels[1], galaxy.fluxes()[1], rtol=2e-4)


def test_in_air(x64):
    """The same pixels told in air or in vacuum see the same; `wave` is what was given."""
    galaxy, edges = lined(), np.arange(5000.0, 6000.0, 2.0)
    air = Instrument(edges=edges, sigma_kms=60.0, medium="air")
    vacuum = Instrument(edges=np.asarray(air_to_vacuum(edges)), sigma_kms=60.0)
    np.testing.assert_allclose(air.wave, 0.5 * (edges[1:] + edges[:-1]), atol=1e-8, rtol=0)
    np.testing.assert_allclose(air.observe(galaxy), vacuum.observe(galaxy), rtol=1e-9)
    assert np.abs(air.observe(galaxy) / Instrument(edges=edges, sigma_kms=60.0).observe(galaxy) - 1).max() > 5e-4


def test_gradients_of_a_galaxy_are_finite(precision):
    """By every parameter, the redshift and both dispersions; also where pixels, lines and dispersions are extreme."""
    instrument = Instrument(edges=np.geomspace(3100.0, 20000.0, 300), resolution=800.0, library_fwhm=2.0)

    @eqx.filter_jit
    def gradient(params, rest, sigma):
        def loss(params, sigma):
            galaxy = eqx.combine(params, rest)
            return instrument.observe(galaxy, sigma_stars=sigma[0], sigma_gas=sigma[1], unit="nJy").sum()

        return jax.grad(loss, argnums=(0, 1))(params, sigma)

    for av, z in ((0.0, 0.0), (0.6, 0.3), (6.0, 9.0)):
        bands = dspsx.FilterSet.load("wise_w1")  # inside the fake spectra at every redshift
        galaxy = testing.fake_galaxy(lines=Lines(), dust=dspsx.Calzetti00(av=av), redshift=z, filters=bands)
        params, rest = eqx.partition(galaxy, eqx.is_inexact_array)
        for sigma in ((0.0, 0.0), (500.0, 500.0)):
            found = gradient(params, rest, jnp.asarray(sigma, float))
            assert all(np.isfinite(x).all() for x in jax.tree.leaves(found)), (av, z, sigma)


def test_a_batch_is_each_galaxy_by_itself(precision):
    galaxies = [lined(redshift=z) for z in (0.1, 0.3, 0.5)]
    batch = dspsx.stack(galaxies)
    instrument, sigma = (
        Instrument(np.arange(5000.0, 7000.0, 4.0), resolution=900.0),
        jnp.asarray([50.0, 200.0, 300.0], float),
    )
    see = lambda galaxy, sigma: instrument.observe(galaxy, sigma_stars=sigma, sigma_gas=sigma)  # noqa: E731
    together = eqx.filter_vmap(see, in_axes=(dspsx.batch_axes(batch), 0))(batch, sigma)
    for row, galaxy, s in zip(together, galaxies, sigma, strict=True):
        expected = np.asarray(see(galaxy, s))
        np.testing.assert_allclose(
            row, expected, rtol=1e-4 if precision == "float32" else 1e-9, atol=1e-6 * expected.max()
        )


def test_one_trace_over_changed_values():
    instrument = Instrument(np.arange(5000.0, 7000.0, 4.0), resolution=900.0)
    traced = eqx.filter_jit(eqx.debug.assert_max_traces(lambda i, g, s: i.observe(g, sigma_stars=s), max_traces=1))
    for z, sigma in ((0.1, 100.0), (0.2, 20.0), (0.3, 0.0)):
        traced(instrument, lined(redshift=z), jnp.asarray(sigma))
    traced(Instrument(np.arange(5000.0, 7000.0, 4.0), resolution=900.0), lined(), jnp.asarray(1.0))


def test_pickle_and_file(tmp_path, precision):
    instrument = Instrument(np.arange(5000.0, 6000.0, 2.0), resolution=2000.0, medium="air", library_fwhm=2.5)
    assert eqx.tree_equal(pickle.loads(pickle.dumps(instrument)), instrument)
    dspsx.save(tmp_path / "instrument.h5", instrument)
    assert eqx.tree_equal(dspsx.load(tmp_path / "instrument.h5"), instrument)
    assert "499 pixels" not in repr(instrument) and "500 pixels" in repr(instrument) and len(instrument) == 500


# --- bad input --------------------------------------------------------------------------------------------------

GOOD = np.arange(5000.0, 6000.0, 2.0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"wave": GOOD[::-1], "resolution": 1e3}, "wave must increase strictly"),
        ({"edges": np.array([5000.0, 5002.0, 5002.0]), "resolution": 1e3}, "edges must increase strictly"),
        ({"wave": GOOD, "edges": GOOD, "resolution": 1e3}, "one of the two"),
        ({"resolution": 1e3}, "one of the two"),
        ({"wave": GOOD * 1e-4, "resolution": 1e3}, "looks like micron"),
        ({"wave": GOOD / 10, "resolution": 1e3}, "looks like nm"),
        ({"wave": np.append(GOOD, np.nan), "resolution": 1e3}, "finite and positive"),
        ({"wave": np.array([5000.0]), "resolution": 1e3}, "at least two"),
        ({"wave": np.array([10.0, 3000.0]), "resolution": 1e3}, "would begin at"),
        ({"wave": GOOD}, "needs one of resolution, sigma and sigma_kms"),
        ({"wave": GOOD, "sigma": 1.0, "resolution": 1e3}, "got resolution, sigma"),
        ({"wave": GOOD, "sigma": -1.0}, "not negative"),
        ({"wave": GOOD, "resolution": 0.0}, "finite and positive"),
        ({"wave": GOOD, "sigma": np.ones(3)}, r"one per pixel, \(500,\)"),
        ({"wave": GOOD, "resolution": 1.5}, "of its wavelength wide"),
        ({"wave": GOOD, "sigma": 1500.0}, "is in Angstrom"),
        ({"wave": GOOD, "resolution": 1e3, "medium": "Air"}, "'vacuum' or 'air'"),
        ({"wave": GOOD - 4000.0, "resolution": 1e3, "medium": "air"}, "never in air"),
        ({"wave": GOOD, "resolution": 1e3, "max_sigma": -1.0}, "max_sigma"),
        ({"wave": GOOD, "resolution": 1e3, "library_fwhm": -2.5}, "library_fwhm must be Angstrom"),
        ({"wave": GOOD, "resolution": 1e3, "library_fwhm": ([5e3, 4e3], [2.5, 2.5])}, "library_fwhm must be a number"),
        ({"wave": np.arange(5000.0, 5001.0, 1e-4), "resolution": 1e3}, "too narrow to be told apart in float32"),
    ],
)
def test_bad_instrument(arguments, message):
    with pytest.raises(ValueError, match=message):
        Instrument(**arguments)


def test_text_is_no_number():
    with pytest.raises(TypeError, match="resolution is text"):
        Instrument(GOOD, resolution="1000")
    with pytest.raises(TypeError, match="resolution is text"):
        Instrument(GOOD, resolution=[1e3, "1000"])
    with pytest.raises(TypeError, match="sigma_gas"):
        Instrument(GOOD, resolution=1e3).observe(testing.fake_galaxy(), sigma_gas="100")


def test_bad_observation():
    instrument, galaxy = Instrument(GOOD, resolution=1e3), testing.fake_galaxy()
    for sigma in (-1.0, 501.0, math.nan, math.inf):
        with pytest.raises(ValueError, match="must be 0 to 500 km/s"):
            instrument.observe(galaxy, sigma_stars=sigma)
        with pytest.raises(ValueError, match="sigma_gas"):
            instrument.observe(galaxy, sigma_gas=sigma)
    with pytest.raises(ValueError, match="unknown unit 'ujy'"):
        instrument.observe(galaxy, unit="ujy")
    with pytest.raises(TypeError):
        instrument.observe(galaxy.ssp)  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match="beyond the spectrum, which at redshift"):
        Instrument(np.geomspace(5000.0, 7e4, 500), resolution=1e3).observe(galaxy)
    # where values cannot be looked at, a dispersion that was not allowed for is not answered
    assert np.isnan(jax.jit(lambda s: instrument.observe(galaxy, sigma_stars=s))(jnp.asarray(600.0))).all()
