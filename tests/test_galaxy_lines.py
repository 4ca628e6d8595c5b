"""Emission lines of a galaxy: luminosities, observed fluxes, equivalent widths, in its bands and where there are none."""

import jax.numpy as jnp
import numpy as np
import pytest

import dspsx
from dspsx import testing

Z = 0.3


@pytest.fixture(scope="module")
def galaxy():
    ssp = testing.fake_ssp(n_wave=400)
    return testing.fake_galaxy(
        ssp=ssp,
        sfh=dspsx.ConstantSFH(lg_mass_formed=9.0, age=1.0),
        lines=dspsx.NebularLines(ssp),
        dust=dspsx.PowerLawDust(av=0.8),
        igm=dspsx.Inoue14(),
        foreground=dspsx.PowerLawDust(av=0.2),
        redshift=Z,
    )


def test_luminosities_and_fluxes(galaxy):
    cosmology = pytest.importorskip("astropy.cosmology")
    wave = np.asarray(galaxy.lines.wave, float)
    bare = dspsx.replace(galaxy, lambda g: g.dust.av, 0.0)
    dimmed = np.asarray(galaxy.line_luminosities(), float) / np.asarray(bare.line_luminosities(), float)
    np.testing.assert_allclose(dimmed, 10 ** (-0.4 * 0.8 * (wave / 5500.0) ** -0.7), rtol=1e-5)

    c = galaxy.cosmology
    dark = {"Tcmb0": float(c.Tcmb0), "Neff": float(c.Neff), "m_nu": [0, 0, float(c.m_nu)]}
    from astropy import units as u

    dark["m_nu"] = dark["m_nu"] * u.eV
    planck = cosmology.FlatLambdaCDM(H0=100 * float(c.h), Om0=float(c.Om0), **dark)
    distance = planck.luminosity_distance(Z).to(u.cm).value
    left = np.asarray(galaxy.on_the_way(galaxy.lines.wave), float)
    wanted = np.asarray(galaxy.line_luminosities(), float) * left * 3.828e33 / (4 * np.pi * distance**2)
    np.testing.assert_allclose(galaxy.line_fluxes(), wanted, rtol=2e-4)
    np.testing.assert_allclose(galaxy.line_fluxes("1e-17 cgs"), wanted * 1e17, rtol=2e-4)
    np.testing.assert_allclose(galaxy.line_fluxes("W/m2"), wanted * 1e-3, rtol=2e-4)
    redder = wave > 1300.0
    np.testing.assert_allclose(left[redder], 10 ** (-0.4 * 0.2 * (wave[redder] * 1.3 / 5500.0) ** -0.7), rtol=1e-5)


def test_equivalent_widths(galaxy):
    i = galaxy.lines.line_names.index("H_alpha_6563")
    wave, sed = np.asarray(galaxy.ssp.wave, float), np.asarray(galaxy.rest_sed(), float)
    at = float(galaxy.lines.wave[i])
    per_angstrom = lambda w: np.interp(w, wave, sed) * 2.99792458e18 / at**2  # noqa: E731
    continuum = (per_angstrom(0.985 * at) + per_angstrom(1.015 * at)) / 2
    width = float(galaxy.line_luminosities()[i]) / continuum
    np.testing.assert_allclose(galaxy.equivalent_widths()[i], width, rtol=1e-4)
    assert width > 1.0
    # the screen is the same for line and continuum, which is interpolated where the fake grid has points
    bare = dspsx.replace(galaxy, lambda g: g.dust.av, 0.0)
    lines = np.asarray(galaxy.lines.wave)
    known = (lines > 2000.0) & (lines < 2e4)
    np.testing.assert_allclose(bare.equivalent_widths()[known], galaxy.equivalent_widths()[known], rtol=0.02)


def test_no_lines_and_no_such_unit(galaxy):
    for ask in ("line_luminosities", "line_fluxes", "equivalent_widths"):
        with pytest.raises(TypeError, match="no emission lines"):
            getattr(testing.fake_galaxy(), ask)()
    with pytest.raises(ValueError, match="unknown flux unit 'Jy'; use one of cgs"):
        galaxy.line_fluxes("Jy")
    assert jnp.isfinite(galaxy.magnitudes()).all()


@pytest.mark.parametrize("shape", [(2,), (1, 3), (3, 2)])
def test_luminosities_of_another_shape_are_refused(shape):
    """One row for each screen of dust: a row too few would count for each of them."""

    class Odd(dspsx.EmissionLines):
        def luminosities(self, ssp, weights):
            return jnp.asarray([5008.0, 6564.0]), jnp.ones(shape)

        def luminosities_separable(self, ssp, metallicity, mass):  # that of the base has annotations, checked in tests
            return self.luminosities(ssp, None)

    with pytest.raises(ValueError, match=r"Odd\.luminosities must return .* 2 screen"):
        testing.fake_galaxy(lines=Odd(), dust=dspsx.CharlotFall00()).line_luminosities()
