"""Indices against spectra whose answer is known, sums over fine grids, the published definitions, and dsps."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from dspsx import indices, testing, units
from dspsx.indices import LICK
from dspsx.spectroscopy import air_to_vacuum

rng = np.random.default_rng(3)
#: Steps that no window's end falls on, a slope, ripples and noise.
WAVE = np.cumsum(0.8 + 0.4 * rng.random(8000)) + 880.0
SED = (1 + WAVE / 5000.0) * (1 + 0.1 * np.sin(WAVE / 9.0) + 0.05 * rng.standard_normal(WAVE.size))
EW = {"line": (6540.0, 6564.6, 6590.0), "blue": (6450.0, 6500.0), "red": (6620.0, 6700.0)}


def fine(lo, hi, wave=WAVE, sed=SED, n=200_000):
    """Middles of many equal steps from lo to hi, the spectrum there, and the step."""
    at = lo + (np.arange(n) + 0.5) * ((hi - lo) / n)
    return at, np.interp(at, wave, sed), (hi - lo) / n


def in_vacuum(*windows):
    with jax.enable_x64(True):
        return np.asarray(air_to_vacuum(np.array(windows)))


def brute_break(blue, red):
    windows = in_vacuum(blue, red)
    below, above = (fine(*w)[1].mean() for w in windows)
    return above / below


def brute_lick(name):
    unit, *windows = LICK[name]
    band, blue, red = in_vacuum(*windows)
    means = [(f / at**2).mean() for at, f, _ in (fine(*blue), fine(*red))]
    at, f, _ = fine(*band)
    ratio = f / at**2 / np.interp(at, [blue.mean(), red.mean()], means)
    return -2.5 * math.log10(ratio.mean()) if unit == "mag" else (1 - ratio.mean()) * (band[1] - band[0])


def test_breaks_against_fine_sums(precision):
    rtol = 1e-5 if precision == "float32" else 1e-7
    np.testing.assert_allclose(indices.dn4000(WAVE, SED), brute_break((3850, 3950), (4000, 4100)), rtol=rtol)
    np.testing.assert_allclose(indices.d4000(WAVE, SED), brute_break((3750, 3950), (4050, 4250)), rtol=rtol)


def test_lick_against_fine_sums(precision):
    found = np.asarray(indices.lick_indices(WAVE, SED))
    expected = np.array([brute_lick(name) for name in LICK])
    # in float32 a wavelength is known to 2.4e-4 A, and this spectrum is rough
    np.testing.assert_allclose(found, expected, atol=5e-4 if precision == "float32" else 1e-6, rtol=0)
    assert np.abs(expected).max() > 1
    some = indices.lick_indices(WAVE, SED, ["Mgb", "CN2"])
    np.testing.assert_allclose(some, expected[[list(LICK).index(name) for name in ("Mgb", "CN2")]], atol=5e-4, rtol=0)


def test_the_definitions_are_the_published_ones(shared):
    """Every row of a table made from the same papers, and all of its Lick indices."""
    rows = {}
    for line in (shared / "data" / "nebular_fsps" / "allindices.dat").read_text().splitlines():
        *numbers, name = line.split("#")[0].split() or [""]
        if name and numbers:
            rows[name] = [float(x) for x in numbers]
    for name, (unit, band, blue, red) in LICK.items():
        assert rows[name] == [*band, *blue, *red, {"mag": 1.0, "A": 2.0}[unit]], name
    assert set(LICK) == {name for name, row in rows.items() if row[-1] in (1.0, 2.0)}
    assert rows["Dn4000"][2:6] == [*indices._BALOGH99[0], *indices._BALOGH99[1]]


def step(wave, at, below, above):
    return np.where(wave < at, below, above)


def test_spectra_whose_answer_is_known(precision):
    rtol = 3e-5 if precision == "float32" else 1e-9
    wave = np.arange(900.0, 9000.0, 1.3)
    # a break between the windows
    np.testing.assert_allclose(indices.dn4000(wave, step(wave, 3975.0, 1.0, 1.7)), 1.7, rtol=rtol)
    np.testing.assert_allclose(indices.d4000(wave, step(wave, 4000.0, 2.0, 3.0)), 1.5, rtol=rtol)
    # f_lambda is one, and a fifth is missing in a box, of the middle of H beta and of all of Mg2
    unit, (lo, hi), *_ = LICK["Hbeta"]
    lo, hi = in_vacuum((lo, hi))[0]
    dense = np.unique(np.concatenate([wave, np.arange(lo - 30, hi + 30, 0.01)]))
    box = (dense > lo + 5) & (dense < hi - 5)
    ew = indices.lick_indices(dense, dense**2 * np.where(box, 0.8, 1.0), "Hbeta")[0]
    assert unit == "A"
    np.testing.assert_allclose(ew, 0.2 * (hi - lo - 10.0), atol=0.005, rtol=0)
    lo, hi = in_vacuum(LICK["Mg2"][1])[0]
    mag = indices.lick_indices(wave, wave**2 * np.where((wave > lo - 4) & (wave < hi + 4), 0.8, 1.0), "Mg2")[0]
    np.testing.assert_allclose(mag, -2.5 * math.log10(0.8), rtol=1e-3)
    # a straight continuum has no line
    straight = wave**2 * (2.0 + wave / 3000.0)
    nothing = indices.lick_indices(wave, straight)
    np.testing.assert_allclose(nothing, 0.0, atol=3e-5)


def test_equivalent_width_of_a_known_line(precision):
    """A Gaussian on a parabola; and the same through dsps's scheme, but for its trapezoid at the ends."""
    wave = np.arange(6300.0, 6900.0, 0.37)
    t = (wave - 6564.6) / 100.0
    continuum = 2.0 + 0.3 * t - 0.05 * t * t
    f = continuum + 8.0 * np.exp(-0.5 * ((wave - 6564.6) / 4.0) ** 2)
    expected = 8.0 * 4.0 * math.sqrt(2 * math.pi) / 2.0
    rtol = 1e-3  # points 0.37 A apart draw the Gaussian
    np.testing.assert_allclose(indices.equivalent_width(wave, f * wave**2, **EW), expected, rtol=rtol)
    np.testing.assert_allclose(indices.equivalent_width(wave, f, **EW, scheme="dsps"), expected, rtol=rtol)
    none = [indices.equivalent_width(wave, continuum * wave**2, **EW)]
    none.append(indices.equivalent_width(wave, continuum, **EW, scheme="dsps"))
    np.testing.assert_allclose(none, 0.0, atol=2e-3 if precision == "float32" else 1e-4)


def test_equivalent_width_against_fine_sums(x64):
    at, weight = (
        np.concatenate(x)
        for x in zip(
            *((a, np.full(a.size, h)) for a, _, h in map(lambda w: fine(*w), (EW["blue"], EW["red"]))), strict=True
        )
    )
    t = at - EW["line"][1]
    c = np.polynomial.Polynomial.fit(t, np.interp(at, WAVE, SED) / at**2, 2, w=np.sqrt(weight)).convert()
    at, f, h = fine(EW["line"][0], EW["line"][2])
    expected = ((f / at**2 - c(at - EW["line"][1])) * h).sum() / c(0.0)
    np.testing.assert_allclose(indices.equivalent_width(WAVE, SED, **EW), expected, rtol=1e-6)
    halfway = {**EW, "line": (EW["line"][0], EW["line"][2])}
    assert abs(indices.equivalent_width(WAVE, SED, **halfway) / expected - 1) < 0.1


def dsps_equivalent_widths(wave, seds, windows):
    """Run by the `peer` fixture: dsps's equivalent width of each spectrum (sed, wave) by each row of seven wavelengths."""
    import jax
    from dsps.em_lines.equivalent_width import _ew_kernel

    jax.config.update("jax_enable_x64", True)
    return np.array([[_ew_kernel(wave, sed, *row)[0] for row in windows] for sed in seds])


def test_equivalent_width_is_that_of_dsps(peer, x64):
    seds = np.array([SED * (1 + 5 * np.exp(-0.5 * ((WAVE - 6564.6) / s) ** 2)) for s in (2.0, 5.0, 9.0)])
    lines = [
        (6540.0, 6564.6, 6590.0, 6450.0, 6500.0, 6620.0, 6700.0),
        (4850.0, 4862.7, 4875.0, 4800.0, 4840.0, 4885.0, 4930.0),
    ]
    theirs = peer(dsps_equivalent_widths, WAVE, seds, np.array(lines))
    for sed, row in zip(seds, theirs, strict=True):
        for (lo, mid, hi, *sides), expected in zip(lines, row, strict=True):
            found = indices.equivalent_width(WAVE, sed, (lo, mid, hi), sides[:2], sides[2:], scheme="dsps")
            np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_uv_slope(precision):
    for beta in (-3.0, -2.0, -0.7, 1.0):  # f_lambda goes with f_nu / wave^2
        np.testing.assert_allclose(indices.uv_slope(WAVE, 1e-30 * WAVE ** (beta + 2.0)), beta, atol=1e-3, rtol=0)
    x, y = [], []
    for lo, hi in indices._CALZETTI94:
        at, f, _ = fine(lo, hi)
        x.append(0.5 * math.log(lo * hi))
        y.append(math.log((f / at**2).mean()))
    np.testing.assert_allclose(indices.uv_slope(WAVE, SED), np.polyfit(x, y, 1)[0], atol=1e-5, rtol=0)


def test_luminosity(precision):
    """Of a flat L_nu it is L_nu times the width in frequency; parts add up."""
    rtol = 1e-5 if precision == "float32" else 1e-10
    flat = np.full(WAVE.size, 3e-5)
    expected = 3e-5 * units.C_ANGSTROM * (1 / 1500.3 - 1 / 2800.7)
    np.testing.assert_allclose(indices.luminosity(WAVE, flat, 1500.3, 2800.7), expected, rtol=rtol)
    parts = [indices.luminosity(WAVE, SED, lo, hi) for lo, hi in ((1500.0, 1777.77), (1777.77, 4000.0))]
    np.testing.assert_allclose(sum(parts), indices.luminosity(WAVE, SED, 1500.0, 4000.0), rtol=rtol)


def test_ionising_photons(precision):
    """L_nu falling as a power of wavelength, in closed form; the last interval is cut at the limit."""
    wave = np.concatenate([np.geomspace(90.0, 905.0, 4000), [930.0, 5000.0]])
    sed = 1e-4 * (wave / 900.0) ** 2
    inside = wave[wave < 905.5]
    whole = 1e-4 / 900.0**2 * 0.5 * (inside[-1] ** 2 - inside[0] ** 2)
    slope = (sed[-2] - sed[-3]) / 25.0
    whole += (sed[-3] - slope * 905.0) * math.log(911.76 / 905.0) + slope * (911.76 - 905.0)
    expected = math.log10(whole * units.LSUN_CGS / 6.62607015e-27)
    found = indices.lg_ionising_photon_rate(wave, sed)
    assert found.dtype == precision
    np.testing.assert_allclose(found, expected, atol=3e-6 if precision == "float32" else 1e-6, rtol=0)
    dark = np.where(wave < 920, 0.0, sed)
    assert np.isfinite(
        jax.grad(indices.lg_ionising_photon_rate, 1)(*(jnp.asarray(x, float) for x in (wave, dark)))
    ).all()


def functions():
    return {
        "dn4000": indices.dn4000,
        "d4000": indices.d4000,
        "lick": lambda w, f: indices.lick_indices(w, f).sum(),
        "uv_slope": indices.uv_slope,
        "luminosity": lambda w, f: jnp.log(indices.luminosity(w, f, 1500.0, 2800.0)),
        "ew": lambda w, f: indices.equivalent_width(w, f, **EW),
        "ew(dsps)": lambda w, f: indices.equivalent_width(w, f, **EW, scheme="dsps"),
        "lg_ionising_photon_rate": indices.lg_ionising_photon_rate,
    }


@pytest.mark.parametrize("name", functions())
def test_gradients(name, precision):
    """Finite in every unit that spectra come in; against finite differences in float64."""
    f = functions()[name]
    wave, sed = jnp.asarray(WAVE, precision), jnp.asarray(SED, precision)
    gradient = jax.jit(jax.grad(f, argnums=(0, 1)))
    for scale in (1e-12, 1e-5, 1e5):
        assert all(np.isfinite(g).all() for g in gradient(wave, sed * scale)), scale
    if not name.startswith(("luminosity", "lg_")):  # of ratios the unit is of no matter: erg / s / cm^2 / Hz
        np.testing.assert_allclose(f(wave, sed * 1e-30), f(wave, sed), rtol=1e-4)
        assert np.isfinite(gradient(wave, sed * 1e-30)[1]).all()
    if precision == "float64":
        tilt = jnp.linspace(-1.0, 1.0, wave.size)
        # the wavelengths stretch by parts in 1e5, so that no point crosses a window's end in dsps's sums
        along = jax.jit(lambda s: f(wave * (1 + 1e-5 * s[1] * tilt), sed * (1 + s[0] * tilt)))
        check_grads(along, (jnp.asarray([0.1, 0.05]),), order=1, modes=["rev"], eps=1e-5, rtol=1e-4, atol=1e-7)
        assert abs(jax.jit(jax.grad(along))(jnp.asarray([0.1, 0.05]))[0]) > 1e-6


def test_batches(x64):
    seds = jnp.asarray([SED, SED**2, 1 / SED])
    together = jax.vmap(indices.lick_indices, in_axes=(None, 0))(jnp.asarray(WAVE), seds)
    for row, sed in zip(together, seds, strict=True):
        np.testing.assert_allclose(row, indices.lick_indices(WAVE, sed), rtol=1e-12)


def test_of_a_galaxy(precision):
    galaxy = testing.fake_galaxy(ssp=testing.fake_ssp(n_wave=3000))
    spectrum = galaxy.ssp.spectrum_wave(), galaxy.rest_sed()
    assert 0.8 < indices.dn4000(*spectrum) < 2.0
    assert -3.0 < indices.uv_slope(*spectrum) < 1.0


def test_bad_input():
    wave, sed = np.linspace(3000.0, 7000.0, 4000), np.ones(4000)
    with pytest.raises(ValueError, match="does not cover 1268-1284"):
        indices.uv_slope(wave, sed)
    with pytest.raises(ValueError, match="in Angstrom"):
        indices.dn4000(wave * 1e-4, sed)
    with pytest.raises(ValueError, match="does not go below"):
        indices.lg_ionising_photon_rate(wave, sed)
    with pytest.raises(ValueError, match="increase strictly"):
        indices.dn4000(wave[::-1], sed)
    with pytest.raises((ValueError, TypeError)):  # the type checker of the tests comes first
        indices.dn4000(wave, sed[:-1])
    with pytest.raises(ValueError, match=r"unknown Lick index 'hbeta'.*Hbeta"):
        indices.lick_indices(wave, sed, ["Mgb", "hbeta"])
    with pytest.raises(ValueError, match="the lesser first"):
        indices.luminosity(wave, sed, 5000.0, 4000.0)
    with pytest.raises(ValueError, match="line must be"):
        indices.equivalent_width(wave, sed, (6540.0, 6600.0, 6590.0), EW["blue"], EW["red"])
    with pytest.raises(ValueError, match="must end before"):
        indices.equivalent_width(wave, sed, EW["line"], EW["red"], EW["blue"])
    with pytest.raises(ValueError, match="'exact' or 'dsps'"):
        indices.equivalent_width(wave, sed, **EW, scheme="DSPS")
    with pytest.warns(UserWarning, match="fewer than four points in the band of Hbeta"):
        indices.lick_indices(np.arange(3000.0, 7000.0, 20.0), np.ones(200), ["Hbeta", "Mg2"][:1])
    # where wavelengths cannot be looked at, what the spectrum does not cover is not answered
    assert np.isnan(jax.jit(indices.uv_slope)(jnp.asarray(wave), jnp.asarray(sed)))
