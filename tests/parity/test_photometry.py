"""Band magnitudes against dsps, and against plain numerical integration on a refined union of the two grids."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dspsx import Calzetti00, Cosmology, FilterSet, GalaxySEDModel, LognormalMDF, SSPGrid, TabulatedSFH, units
from tests.parity.peers import dsps_obs_mags, dsps_rest_mags

#: dsps's Planck15: no radiation.
DSPS_PLANCK15 = {"Om0": 0.3075, "w0": -1.0, "wa": 0.0, "h": 0.6774}
#: dsps writes 3631 Jy at 10 pc with six digits, in Lsun/Hz; 6e-8 mag from ours.
DSPS_AB0 = 1.13492e-13
REDSHIFTS = (0.0, 0.1, 0.5, 1.0, 2.0, 4.0)
TENTH_MMAG = 1e-4
#: lgmet, tau of an exponential history that began at t_form, t_form, av: blue to red, dusty, and one long dead.
GALAXIES = np.array(
    [
        [-2.0, 9.0, 0.1, 0.0],
        [-1.7, 1.0, 0.1, 0.5],
        [-3.2, 0.3, 0.1, 0.0],
        [-1.4, 0.1, 0.1, 2.0],
        [-2.3, 5.0, 1.2, 1.0],
    ]
)


def make(ssp, filters, row, redshift):
    t = jnp.linspace(0.05, 14.0, 280)
    lgmet, tau, t_form, av = row
    sfr = jnp.where(t > t_form, jnp.exp(-(t - t_form) / tau), 0.0)
    cosmology = Cosmology(**DSPS_PLANCK15, Tcmb0=0.0, Neff=0.0, m_nu=0.0)
    return GalaxySEDModel(
        ssp=ssp,
        sfh=TabulatedSFH(t, 10.0 * sfr),
        metallicity=LognormalMDF(lgmet, 0.2),
        dust=Calzetti00(av),
        filters=filters,
        cosmology=cosmology,
        redshift=redshift,
    )


@eqx.filter_jit
@eqx.filter_vmap(in_axes=(None, None, 0, 0))
def predict(ssp, filters, row, redshift):
    galaxy = make(ssp, filters, row, redshift)
    return galaxy.rest_sed(), galaxy.magnitudes(), galaxy.rest_magnitudes(), galaxy.fluxes()


def fine(curve, size=10001):
    """A curve resampled to 1 A or finer; the infrared ones broader than 10,000 A to 1/10,000 of their width."""
    wave = np.linspace(curve[0][0], curve[0][-1], size)
    return wave, np.interp(wave, *curve)


#: Simpson's rule on eleven points.
SIMPSON = np.array([1, 4, 2, 4, 2, 4, 2, 4, 2, 4, 1]) / 30


def integrate(wave, spectra, curve, redshift=0.0):
    """Photon-counting mean of spectra (sed, wave) in a band: Simpson's rule on the union of the grids, refined ten times.

    Trapezoids on the same points would be wrong by up to 4 mmag where both curves rise from nothing in one interval.
    The spectra are zero beyond their wavelengths, and may jump there.
    """
    wave = wave * (1.0 + redshift)
    f, t = curve
    union = np.union1d(wave, f)
    union = union[(union >= f[0]) & (union <= f[-1])]
    x = union[:-1, None] + np.diff(union)[:, None] * np.arange(11) / 10
    measure = np.interp(x, f, t) / x * np.diff(union)[:, None] * SIMPSON
    covered = (x[:, 5] > wave[0]) & (x[:, 5] < wave[-1])
    return np.array([(measure * np.interp(x, wave, s))[covered].sum() for s in spectra]) / measure.sum()


def test_dsps(peer, x64):
    """All embedded bands where DSPS samples them finely: absolute magnitudes, and apparent ones from z = 0.02 to 4."""
    ssp, filters = SSPGrid.default(), FilterSet.load("*")
    redshifts = np.array([0.02, 0.1, 0.5, 1.0, 2.0, 4.0])
    wave = np.asarray(ssp.wave)
    curves = np.stack([fine(curve) for curve in filters.curves()], axis=1)
    rows = jnp.asarray(GALAXIES)
    ours = [predict(ssp, filters, rows, jnp.full(len(rows), z)) for z in redshifts]
    sed, apparent, absolute, _ = (np.stack(x) for x in zip(*ours, strict=True))
    expected, cosmology = peer(dsps_obs_mags, wave, sed, *curves, redshifts)
    assert cosmology == DSPS_PLANCK15
    np.testing.assert_allclose(apparent, expected, rtol=0, atol=1e-3)
    expected = peer(dsps_rest_mags, wave, sed[0], *curves)
    np.testing.assert_allclose(absolute[0], expected, rtol=0, atol=1e-3)
    assert abs(2.5 * np.log10(units.AB_LSUN_HZ / DSPS_AB0)) < 1e-7


@pytest.mark.parametrize("redshift", REDSHIFTS)
def test_direct_integration(redshift, x64, grid):
    """All embedded bands within 0.1 mmag, through the galaxy; the grid covers every band at all these redshifts."""
    ssp, filters = grid, FilterSet.load("*")
    assert filters.uncovered(ssp.wave, redshift) == []
    z = jnp.full(len(GALAXIES), redshift)
    sed, apparent, absolute, fluxes = (np.asarray(x) for x in predict(ssp, filters, jnp.asarray(GALAXIES), z))
    mean = np.stack([integrate(np.asarray(ssp.wave), sed, curve, redshift) for curve in filters.curves()], axis=1)
    cosmology = Cosmology(**DSPS_PLANCK15, Tcmb0=0.0, Neff=0.0, m_nu=0.0)
    distance = max(float(eqx.filter_jit(Cosmology.luminosity_distance)(cosmology, redshift)) * 1e5, 1.0)  # in 10 pc
    maggies = mean / units.AB_LSUN_HZ * (1 + redshift) / distance**2
    assert np.abs(-2.5 * np.log10(fluxes / maggies)).max() < TENTH_MMAG
    assert np.abs(apparent + 2.5 * np.log10(maggies)).max() < TENTH_MMAG
    if redshift == 0:
        assert np.abs(absolute + 2.5 * np.log10(mean / units.AB_LSUN_HZ)).max() < TENTH_MMAG


def emission_lines(rng):
    """A spectrum on irregular wavelengths with 60 lines, some narrower than the filters' steps, EW up to 1000 A."""
    wave = np.sort(np.append(10 ** rng.uniform(2.5, 5.6, 3200), rng.uniform(3000, 9000, 800)))
    centre, sigma, ew = rng.uniform(1000, 20000, 60), 10 ** rng.uniform(0, 1.5, 60), 10 ** rng.uniform(0, 3, 60)
    wave = np.union1d(wave, (centre[:, None] + sigma[:, None] * rng.uniform(-5, 5, (60, 40))).ravel())
    profile = np.exp(-0.5 * ((wave[:, None] - centre) / sigma) ** 2) * ew / (np.sqrt(2 * np.pi) * sigma)
    return wave, (wave / 5500.0) ** 0.5 * (1 + profile.sum(1)) * 10 ** rng.normal(0, 0.05, wave.size)


@pytest.mark.parametrize("redshift", REDSHIFTS)
def test_emission_lines(redshift, x64):
    """Narrow lines on a random grid, in all bands that the spectrum covers."""
    filters = FilterSet.load("*")
    wave, spectrum = emission_lines(np.random.default_rng(3))
    average = eqx.filter_jit(FilterSet.band_average)
    ours = np.asarray(average(filters, jnp.asarray(wave), jnp.asarray(spectrum), jnp.asarray(redshift, float)))
    missed = filters.uncovered(jnp.asarray(wave), redshift)
    assert len(missed) < 5
    for name, curve, value in zip(filters.names, filters.curves(), ours, strict=True):
        if name not in missed:
            expected = integrate(wave, spectrum[None], curve, redshift)[0]
            assert abs(2.5 * np.log10(value / expected)) < TENTH_MMAG, name


def contrived(rng, wave):
    """Bands that are hard on a spectrum's grid, by name."""
    i = wave.size // 2
    inside = lambda a, b, n: np.sort(rng.uniform(a, b, n))  # noqa: E731
    lo, hi = wave[0], wave[-1]
    step = wave[i + 1] - wave[i]
    waves = {
        "on the spectrum's points": wave[i - 20 : i + 20],
        "every third point": wave[i - 30 : i + 30 : 3],
        "some points in common": np.union1d(wave[i - 20 : i + 20 : 2], inside(wave[i - 20], wave[i + 20], 15)),
        "within one step": wave[i] + step * np.array([0.31, 0.312, 0.317, 0.32]),
        "within one step, from its start": wave[i] + step * np.array([0.0, 0.1, 0.3]),
        "within one step, to its end": wave[i] + step * np.array([0.6, 0.8, 1.0]),
        "exactly one step": wave[i : i + 2],
        "two points": np.array([wave[i - 10] + 0.3 * step, wave[i + 13]]),
        "much finer": np.linspace(wave[i - 4] + 0.1, wave[i + 5] - 0.1, 3000),
        "much coarser": np.linspace(lo + 1.3, hi - 1.7, 5),
        "partly bluer than the spectrum": inside(0.6 * lo, 1.5 * lo, 40),
        "partly redder than the spectrum": inside(0.8 * hi, 1.3 * hi, 40),
        "from its first point": np.append(lo, inside(lo, 2 * lo, 10)),
        "to its last point": np.append(inside(0.7 * hi, hi, 10), hi),
        "wider than the spectrum": np.geomspace(0.5 * lo, 1.5 * hi, 15),
    }
    return {name: (w, rng.uniform(0.2, 300.0, w.size)) for name, w in waves.items()}  # steps at both ends


@pytest.mark.parametrize("spectral_grid", ["regular", "random"])
def test_contrived_bands(spectral_grid, x64):
    """Coinciding points, bands within one step of the spectrum, bands that it covers in part (it is zero beyond)."""
    rng = np.random.default_rng(11)
    wave = np.linspace(2000.0, 9000.0, 701)
    if spectral_grid == "random":
        wave = np.sort(rng.uniform(2000.0, 9000.0, 701))
    spectrum = rng.uniform(0.2, 1.0, wave.size)
    curves = contrived(rng, wave)
    filters = FilterSet.from_arrays(list(curves), *zip(*curves.values(), strict=True))
    ours = np.asarray(eqx.filter_jit(FilterSet.band_average)(filters, jnp.asarray(wave), jnp.asarray(spectrum)))
    for name, curve, value in zip(filters.names, filters.curves(), ours, strict=True):
        expected = integrate(wave, spectrum[None], curve)[0]
        assert abs(2.5 * np.log10(value / expected)) < TENTH_MMAG, name


def test_contrived_bands_outside(x64):
    """A band beyond the spectrum has no flux, not even where the two only touch."""
    wave = np.linspace(2000.0, 9000.0, 701)
    waves = [np.array([1000.0, 1500.0]), np.array([1000.0, 2000.0]), np.array([9000.0, 9500.0]), np.array([1e4, 2e4])]
    filters = FilterSet.from_arrays(list("abcd"), waves, [np.ones(2)] * 4)
    average = eqx.filter_jit(FilterSet.band_average)(filters, jnp.asarray(wave), jnp.ones(wave.size))
    np.testing.assert_array_equal(average, np.zeros(4))


def test_two_point_top_hats(x64):
    """A constant has itself as its mean in every band that it covers, one of two points far apart too."""
    edges = [[2000.0, 2400.0], [2000.0, 3000.0], [2000.0, 4000.0], [1000.0, 9999.0], [4000.0, 9000.0]]
    filters = FilterSet.from_arrays(list("abcde"), edges, [[1.0, 1.0]] * 5)
    average = eqx.filter_jit(FilterSet.band_average)(filters, jnp.linspace(1000.0, 1e4, 901), jnp.ones(901))
    np.testing.assert_allclose(2.5 * np.log10(np.asarray(average)), 0.0, atol=TENTH_MMAG)


@eqx.filter_jit
def value_and_slope(filters, wave, spectrum, redshift):
    return jax.jvp(lambda z: filters.band_average(wave, spectrum, z), (redshift,), (jnp.ones(()),))


def check_gradient(filters, wave, spectrum, redshift, tolerance=1e-6, without=()):
    """Forward-mode d(flux)/dz against central differences of fourth order, relative to it or to flux / (1 + z)."""
    value, gradient = (np.asarray(x) for x in value_and_slope(filters, wave, spectrum, jnp.asarray(redshift)))
    h = 1e-7 * (1 + redshift)
    flux = [
        np.asarray(value_and_slope(filters, wave, spectrum, jnp.asarray(redshift + k * h))[0]) for k in (-2, -1, 1, 2)
    ]
    expected = (8 * (flux[2] - flux[1]) - (flux[3] - flux[0])) / (12 * h)
    error = np.abs(gradient - expected) / np.maximum(np.abs(value) / (1 + redshift), np.abs(expected))
    wrong = {
        name: (float(g), float(e))
        for name, g, e, bad in zip(filters.names, gradient, expected, error > tolerance, strict=True)
        if bad and name not in without
    }
    assert not wrong, f"d flux / dz of the gradient, and of differences, differ for {wrong}"


@pytest.mark.parametrize("redshift", REDSHIFTS)
def test_gradient_in_redshift(redshift, x64):
    """All embedded bands, on a random grid with narrow lines: no points coincide."""
    wave, spectrum = (jnp.asarray(x) for x in emission_lines(np.random.default_rng(5)))
    check_gradient(FilterSet.load("*"), wave, spectrum, redshift)


@pytest.mark.parametrize("redshift", [0.0, 0.1, 0.25, 0.5, 1.0, 2.0, 3.0])
def test_gradient_in_redshift_where_points_coincide(redshift, x64):
    """The default grid has wavelengths in whole Angstrom, as the bands have: at such redshifts many points coincide."""
    ssp = SSPGrid.default()
    check_gradient(FilterSet.load(["lsst_*", "wfc3_f1*", "galex_nuv"]), ssp.wave, ssp.flux[4, 80] * 1e15, redshift)


@pytest.mark.parametrize("redshift", [0.0, 0.3])
def test_gradient_of_contrived_bands(redshift, x64):
    """On a regular grid: many points coincide exactly; there the second derivative jumps, hence the tolerance."""
    rng = np.random.default_rng(12)
    wave = np.linspace(2000.0, 9000.0, 701)
    curves = contrived(rng, wave)
    filters = FilterSet.from_arrays(list(curves), *zip(*curves.values(), strict=True))
    # a band that ends with a step exactly where the spectrum does has no derivative there
    without = ("from its first point", "to its last point") if redshift == 0 else ()
    spectrum = jnp.asarray(rng.uniform(0.2, 1.0, wave.size))
    check_gradient(filters, jnp.asarray(wave), spectrum, redshift, tolerance=1e-4, without=without)
