"""The embedded data: what they say of themselves, and the filters against the curves that they were made from."""

import pathlib

import equinox as eqx
import h5py
import jax.numpy as jnp
import numpy as np
import pytest

import dspsx

FOLDER = pathlib.Path(dspsx.__file__).parent / "data"


def test_the_embedded_grid():
    grid = dspsx.SSPGrid.default()
    assert grid.flux.shape == (6, 106, 1229)
    np.testing.assert_allclose(10 ** np.asarray(grid.lgmet), [0.0001, 0.0004, 0.004, 0.008, 0.02, 0.05], rtol=1e-5)
    assert dspsx.SSPGrid.default() is grid
    assert (FOLDER / "ssp_popstar_chabrier.h5").stat().st_size < 5e6


def test_the_grid_is_what_it_says(grid):
    about = dict(grid.provenance)
    for key in (
        "library",
        "imf",
        "isochrones",
        "z_sun",
        "l_sun_cgs",
        "resolution",
        "citation",
        "licence",
        "source",
        "created",
    ):
        assert about[key], key
    assert not [line for line in grid.diagnose() if line.startswith("odd")]


def test_the_grid_in_solar_numbers(grid):
    """Independent of `diagnose`: colour, light and ionising photons of solar populations are where the literature has them."""
    filters = dspsx.FilterSet.load(["sdss_g", "sdss_r"])
    solar = np.asarray(grid.flux[np.argmin(abs(10 ** np.asarray(grid.lgmet) - 0.02))])
    band = np.asarray(filters.projection(grid.wave)) @ solar.T / dspsx.units.AB_LSUN_HZ
    g, r = -2.5 * np.log10(band)
    old, young = np.argmin(abs(np.asarray(grid.lg_age) - 1.0)), np.argmin(abs(np.asarray(grid.lg_age) + 2.0))
    assert 0.70 < g[old] - r[old] < 0.85  # 10 Gyr
    assert -0.45 < g[young] - r[young] < 0.1  # 10 Myr
    assert 5.5 < r[old] < 6.8  # about 6 mag for a solar mass formed 10 Gyr ago


def test_filters_say_where_they_come_from():
    assert len(dspsx.FilterSet.available()) >= 60
    assert (FOLDER / "filters.h5").stat().st_size < 1e6
    with h5py.File(FOLDER / "filters.h5") as file:
        for name, group in file.items():
            assert {"source", "original_name", "licence", "pivot", "citation"} <= set(group.attrs), name
            assert group.attrs["error_mmag"] < 0.5, name
            pivot = dspsx.FilterSet.load(name).pivot_wavelengths()[0]
            assert abs(pivot / group.attrs["pivot"] - 1) < 1e-4, name


@eqx.filter_jit
def projection(filters, wave, z):
    return filters.projection(wave, z)


@pytest.mark.parametrize(
    "survey", ["lsst_*", "sdss_*", "decam_*", "roman_*", "twomass_*", "wise_*", "galex_*", "nircam_*"]
)
def test_thinned_filters_against_the_full_curves(survey):
    """Under 0.5 mmag on real spectra, with curves taken from speclite and sedpy again and none of the builder's code."""
    grid = dspsx.SSPGrid.default()
    thinned = dspsx.FilterSet.load(survey)
    waves, curves = [], []
    with h5py.File(FOLDER / "filters.h5") as file:
        for name in thinned.names:
            source, original = (file[name].attrs[key] for key in ("source", "original_name"))
            load = dspsx.FilterSet.from_speclite if "speclite" in source else dspsx.FilterSet.from_sedpy
            (wave, curve), *_ = load(original).curves()
            waves.append(wave)
            curves.append(curve)
    full = dspsx.FilterSet.from_arrays(thinned.names, waves, curves)
    ages = [np.argmin(abs(np.asarray(grid.lg_age) - x)) for x in (-2.3, -1.2, -0.2, 0.6)]
    spectra = np.concatenate([np.asarray(grid.flux, float)[m, ages] for m in (1, 4)])
    for z in (0.05, 0.45, 1.1, 2.3):
        ours, theirs = (
            np.asarray(projection(f, grid.wave, jnp.asarray(z)), float) @ spectra.T for f in (thinned, full)
        )
        # as in the builder: bands blueward of the Lyman limit hold next to no light, and are not judged
        lit = thinned.pivot_wavelengths() / (1 + z) > 1000.0
        bright = theirs > 1e-3 * spectra.max(1)
        error = 2500 * np.abs(np.log10(ours / theirs, where=bright, out=np.zeros_like(ours)))
        assert error[lit].max(initial=0.0) < 0.5, (z, dict(zip(thinned.names, error.max(1).round(2), strict=True)))


def test_filters_from_other_packages_and_files(tmp_path):
    assert dspsx.FilterSet.from_speclite("sdss2010-*").names == (
        "sdss2010-u",
        "sdss2010-g",
        "sdss2010-r",
        "sdss2010-i",
        "sdss2010-z",
    )
    assert len(dspsx.FilterSet.from_sedpy("jwst_f090w", "wise_w1")) == 2
    (wave, curve), *_ = dspsx.FilterSet.load("sdss_g").curves()
    np.savetxt(tmp_path / "mine.dat", np.column_stack([wave, curve]))
    with h5py.File(tmp_path / "lsst_g_transmission.h5", "w") as file:
        file["wave"], file["transmission"] = wave, curve
    both = dspsx.FilterSet.from_files([tmp_path / "mine.dat", tmp_path / "lsst_g_transmission.h5"])
    assert both.names == ("mine", "lsst_g_transmission")
    joined = both + dspsx.FilterSet.load("sdss_g")
    np.testing.assert_allclose(joined.pivot_wavelengths(), joined.pivot_wavelengths()[0], rtol=1e-6)


def test_the_dsps_format_round_trip(tmp_path):
    grid = dspsx.SSPGrid.default()
    grid.to_hdf5(tmp_path / "grid.h5")
    with h5py.File(tmp_path / "grid.h5") as file:
        assert set(file) == {"ssp_lgmet", "ssp_lg_age_gyr", "ssp_wave", "ssp_flux"}
    again = dspsx.SSPGrid.from_hdf5(tmp_path / "grid.h5")
    assert again.digest() == grid.digest() and again.provenance == grid.provenance
