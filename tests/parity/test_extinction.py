"""Extinction curves against dust_extinction, its table, and the values in the papers; and where no paper has any."""

import csv

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import dspsx
from dspsx import testing
from dspsx.dust import extinction
from dspsx.dust.extinction import CCM89, Fitzpatrick99, Gordon03LMC, Gordon03SMC, Gordon23, ODonnell94

LAWS = (CCM89, ODonnell94, Fitzpatrick99, Gordon23, Gordon03SMC, Gordon03LMC)
RV = {CCM89: (2.0, 6.0), ODonnell94: (2.0, 6.0), Fitzpatrick99: (2.0, 6.0), Gordon23: (2.3, 5.6)}
#: Inverse micron between which the peer defines a law.
RANGE = {law: (0.3, 10.0) for law in LAWS} | {Gordon23: (1 / 32, 1 / 0.0912)}
#: Angstrom: where formulas meet, with the largest relative step over all R_V, where one has been published.
SEAMS = {912.0: {}, 1250.0: {CCM89: 1.1e-4, ODonnell94: 1.1e-4}, 1e4 / 5.9: {}, 2700.0: {}, 3000.0: {}, 3300.0: {}}
SEAMS |= {1e4 / 3.3: {CCM89: 1.7e-4, ODonnell94: 9.0e-3}, 1e4 / 1.1: {CCM89: 1.8e-3, ODonnell94: 1.6e-3}}
SEAMS |= {9000.0: {}, 11000.0: {}, 26500.0: {}, 21980.0: {}, 19140.0: {}, 66970.0: {}, 3.3333e4: {}, 3.2e5: {}}
#: Half of them from 50 A to 1 cm, and half where starlight is.
EVERYWHERE = np.sort(np.concatenate([np.geomspace(50.0, 1e8, 1000), np.geomspace(800.0, 5e4, 1000), list(SEAMS)]))

each = pytest.mark.parametrize("law", LAWS)


def ratios(law, n=7):
    """R_V from bound to bound, or none for a curve that has but one."""
    return np.linspace(*RV[law], n) if law in RV else (None,)


def build(law, rv, av=1.0):
    return law(av=av) if rv is None else law(av=av, rv=rv)


def peer_curve(law, rv, wave):
    u = pytest.importorskip("astropy.units")
    averages = pytest.importorskip("dust_extinction.averages")
    parameter_averages = pytest.importorskip("dust_extinction.parameter_averages")
    if rv is None:
        curve = {Gordon03SMC: averages.G03_SMCBar, Gordon03LMC: averages.G03_LMCAvg}[law]()
    else:
        names = {CCM89: "CCM89", ODonnell94: "O94", Fitzpatrick99: "F99", Gordon23: "G23"}
        curve = getattr(parameter_averages, names[law])(Rv=float(rv))
    return curve(wave * u.AA)


def in_range(law, n=4000):
    """Wavelengths of a law's range, uniform in their inverse, with its ends and both sides of every seam.

    At the very ends, 1 / lambda rounds to where the peer gives zero.
    """
    lo, hi = RANGE[law][0] * (1 + 1e-12), RANGE[law][1] * (1 - 1e-12)
    seams = 1e4 / np.array(list(SEAMS))
    x = np.concatenate([np.linspace(lo, hi, n), seams * (1 - 1e-9), seams * (1 + 1e-9)])
    return 1e4 / np.sort(x[(x >= lo) & (x <= hi)])


@each
def test_dust_extinction(law, x64):
    """The same formulas: 1e-6 is asked for, rounding is what is left (5e-15)."""
    for rv in ratios(law):
        wave = in_range(law)
        expected = peer_curve(law, rv, wave)
        assert expected.min() > 0 and expected.max() > 1.6
        np.testing.assert_allclose(build(law, rv).attenuation(jnp.asarray(wave)), expected, rtol=1e-12)


@each
def test_dust_extinction_in_float32(law):
    """Polynomials of the eighth degree cost O'Donnell 3e-6; no point is nearer to a seam than its wavelength is exact."""
    wave = in_range(law)
    apart = np.abs(wave[:, None] / np.array(list(SEAMS)) - 1).min(1) > 1e-6
    wave = wave[apart].astype(np.float32)
    for rv in ratios(law):
        ours = build(law, rv).attenuation(jnp.asarray(wave))
        assert ours.dtype == jnp.float32
        np.testing.assert_allclose(ours, peer_curve(law, rv, wave.astype(float)), rtol=1e-5)


@each
def test_table_of_dust_extinction(law, shared, x64):
    """To the table's six digits."""
    column = dict(
        zip(LAWS, ("CCM89_Rv3.1", "O94_Rv3.1", "F99_Rv3.1", "G23_Rv3.1", "G03_SMCBar", "G03_LMCAvg"), strict=True)
    )[law]
    with open(shared / "data" / "reference" / "attenuation_A_over_Av.csv") as file:
        rows = list(csv.DictReader(file))
    wave, expected = (np.array([float(row[name]) for row in rows]) for name in ("wave_A", column))
    assert expected.size == 29 and np.isfinite(expected).all()
    np.testing.assert_allclose(law(av=1.0).attenuation(jnp.asarray(wave)), expected, rtol=5.1e-6)


def test_values_in_the_papers(x64):
    """To the digits given: a and b at V, J, H, K and L, Table 3 of Cardelli et al. (1989); A / E(B-V) for R_V = 3.1, Table 3 of
    Fitzpatrick (1999). Of the Magellanic Clouds, averages of the data, which the fitted curves miss by up to 6 %."""
    a, b = extinction.ccm89_terms(jnp.asarray([1e4 / 1.82, 12500.0, 16000.0, 22000.0, 34000.0]))
    np.testing.assert_allclose(a, [1.0, 0.4008, 0.2693, 0.1615, 0.0800], atol=3e-4)
    np.testing.assert_allclose(b, [0.0, -0.3679, -0.2473, -0.1483, -0.0734], atol=3e-4)
    wave = jnp.asarray([26500.0, 12200.0, 6000.0, 5470.0, 4670.0, 4110.0, 2700.0, 2600.0])
    expected = [0.265, 0.829, 2.688, 3.055, 3.806, 4.315, 6.265, 6.591]
    np.testing.assert_allclose(Fitzpatrick99(av=3.1).attenuation(wave), expected, atol=1.1e-3)
    x = jnp.asarray([3.375, 4.625, 5.875, 7.125, 8.125])
    np.testing.assert_allclose(Gordon03SMC(av=1.0).attenuation(1e4 / x), [2.0, 3.161, 4.013, 5.272, 6.297], rtol=0.06)
    np.testing.assert_allclose(Gordon03LMC(av=1.0).attenuation(1e4 / x), [1.786, 2.967, 2.598, 3.118, 3.366], rtol=0.06)


@each
def test_every_wavelength(law, precision):
    """From 50 A to 1 cm A is positive, and its derivatives by A_V, R_V and wavelength are finite, at the edges too."""
    wave = jnp.asarray(EVERYWHERE, float)

    @jax.jit
    def everything(av, rv):
        def curves(av, rv, wave):
            model = build(law, rv if law in RV else None, av)
            return model.attenuation(wave), model.transmission(wave)

        slopes = jax.jvp(lambda w: curves(av, rv, w), (wave,), (jnp.ones_like(wave),))[1]
        gradient = jax.grad(lambda av, rv, w: sum(c.sum() for c in curves(av, rv, w)), argnums=(0, 1, 2))(av, rv, wave)
        return curves(av, rv, wave), slopes, jax.jacfwd(curves, argnums=(0, 1))(av, rv, wave), gradient

    for rv in RV.get(law, (3.1,)):
        for av in (0.0, 1.0, 6.0):
            out = everything(jnp.asarray(av, float), jnp.asarray(rv, float))
            assert all(np.isfinite(x).all() for x in jax.tree.leaves(out))
            (a, transmission), _, ((by_av, _), _), _ = out
            assert a.dtype == precision and by_av.shape == wave.shape
            assert (a == 0).all() if av == 0 else (a > 0).all()
            assert (by_av > 0).all() and (transmission <= 1).all()


@each
def test_beyond_the_data(law, x64):
    """Constant below the Lyman limit; beyond the data in the infrared going down as a power law."""
    infrared = np.geomspace(3.3e5 if law is Gordon23 else 3.3e4, 1e10, 500)
    for rv in ratios(law):
        curve = build(law, rv).attenuation
        edge = float(curve(jnp.asarray([912.0]))[0])
        np.testing.assert_allclose(curve(jnp.asarray([50.0, 91.0, 500.0, 911.99])), edge, rtol=1e-12)
        assert 1.5 < edge < 14
        a = np.asarray(curve(jnp.asarray(infrared)))
        slope = np.diff(np.log(a)) / np.diff(np.log(infrared))
        limit = {CCM89: -1.61, ODonnell94: -1.61, Gordon23: -0.788}.get(law, -1.0)
        assert (slope < limit + 0.06).all() and (slope > -2.5).all()
        np.testing.assert_allclose(slope[-1], limit, atol=0.02)
        assert float(curve(jnp.asarray([1.6e6]))[0]) < 0.005


@each
def test_seams(law, x64):
    """Continuous to 1e-6 but where the publication is not; its largest step is stated to two digits."""
    for seam, steps in SEAMS.items():
        wave = jnp.asarray(seam * (1 + np.array([-1e-9, 1e-9])))
        values = [np.asarray(build(law, rv).attenuation(wave)) for rv in ratios(law, 9)]
        largest = max(abs(right / left - 1) for left, right in values)
        if law in steps:
            np.testing.assert_allclose(largest, steps[law], rtol=0.05, err_msg=f"{seam}")
        else:
            assert largest < 1e-6, seam


@pytest.mark.parametrize("law", list(RV))
def test_ratios_are_bounded(law):
    lo, hi = RV[law]
    for bad in (lo - 0.1, hi + 0.1):
        with pytest.raises(ValueError, match=rf"{law.__name__}\.rv = .* outside its bounds"):
            law(rv=bad)
    assert "rv" not in {name for name, (info, _) in dspsx.named_parameters(law()).items() if info.free}


@pytest.mark.parametrize("law", [CCM89, Fitzpatrick99])
def test_in_front_of_a_galaxy(law):
    """As the galaxy's own dust, and in the foreground at the wavelengths of the observer, it dims and reddens; the gradients by the
    redshift and by A_V = 0 are finite."""
    galaxy = testing.fake_galaxy(dust=law(), foreground=law())

    @jax.jit
    def magnitudes(values):
        where = lambda g: (g.redshift, g.dust.av, g.foreground.av)  # noqa: E731
        new = lambda v: dspsx.replace(galaxy, where, tuple(v)).magnitudes()  # noqa: E731
        return new(values), jax.jacrev(new)(values)

    bare, slopes = magnitudes(jnp.asarray([0.3, 0.0, 0.0]))
    assert np.isfinite(slopes).all() and (slopes[:, 1:] > 0).all()
    for values in ([0.3, 0.5, 0.0], [0.3, 0.0, 0.5]):
        behind, slopes = magnitudes(jnp.asarray(values))
        assert np.isfinite(slopes).all()
        assert (behind > bare).all() and (np.diff(behind - bare) < 0).all()
