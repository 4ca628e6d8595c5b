"""Attenuation against dsps.dust.att_curves, the published values, and the tables of dust_attenuation."""

import csv

import equinox as eqx
import jax.numpy as jnp
import numpy as np
import pytest

from dspsx import Calzetti00, Noll09, PartialCover, PowerLawDust, Salim18
from dspsx.dust import attenuation
from tests.parity.peers import dsps_dust

RTOL = 1e-6
#: 0.01 to 30 micron, with the seams of the laws, and with what floats are next to them.
SEAMS = np.array([1500.0, 2175.0, 5500.0, 6300.0])
WAVE = np.sort(
    np.concatenate([np.geomspace(100.0, 3e5, 1500), SEAMS, np.nextafter(SEAMS, 0), np.nextafter(SEAMS, 1e9)])
)
LG_AGE = np.array([-3.0, 0.0, 1.0])
N = 300


@eqx.filter_jit
@eqx.filter_vmap(in_axes=(None, 0, 0))
def ours(cls, params, covering):
    wave = jnp.asarray(WAVE)
    law = cls(**params)
    share, transmission = PartialCover(law, covering).screens(wave, jnp.asarray(LG_AGE))
    return law.attenuation(wave), law.transmission(wave), share, transmission[0]


def draws(rng, bump_shape):
    """Parameters over the whole of our bounds, bounds included."""
    low = {"av": 0.0, "bump": 0.0, "delta": -1.6, "bump_wave": 1500.0, "bump_width": 50.0}
    high = {"av": 6.0, "bump": 6.0, "delta": 1.0, "bump_wave": 3000.0, "bump_width": 1000.0}
    params = {name: rng.uniform(low[name], high[name], N) for name in low}
    for i, name in enumerate(params):
        params[name][2 * i], params[name][2 * i + 1] = low[name], high[name]
    if bump_shape == "default":
        params.update(bump_wave=np.full(N, 2175.0), bump_width=np.full(N, 350.0))
    return params, np.concatenate([[0.0, 1.0], rng.uniform(0, 1, N - 2)])


@pytest.mark.parametrize("bump_shape", ["default", "random"])
@pytest.mark.parametrize(("cls", "law"), [(Calzetti00, "calzetti00"), (Noll09, "noll09"), (Salim18, "sbl18")])
def test_dsps(cls, law, bump_shape, peer, x64):
    """A, 10^(-0.4 A), and a screen with holes; the covering is one minus dsps's unobscured fraction.

    A is compared to 1e-6 of itself or 1e-12 mag: it ends at zero near 3 micron by cancellation. Where A is
    thousands of magnitudes (0.01 micron) the transmissions are compared down to 1e-300.
    """
    params, covering = draws(np.random.default_rng(30), bump_shape)
    mine = {"av": params["av"]} if cls is Calzetti00 else params
    mine = {name: jnp.asarray(value) for name, value in mine.items()}
    a, t, share, covered = (np.asarray(x) for x in ours(cls, mine, jnp.asarray(covering)))
    bump = (params["bump_wave"] / 1e4, params["bump_width"] / 1e4)
    args = (law, WAVE / 1e4, params["av"], params["bump"], params["delta"], *bump)
    _, expected, transmission = peer(dsps_dust, *args, np.zeros(N))
    _, _, expected_covered = peer(dsps_dust, *args, 1.0 - covering)
    assert np.isfinite(expected).all() and (expected >= 0).all() and expected.max() > 1000
    np.testing.assert_allclose(a, expected, rtol=RTOL, atol=1e-12)
    np.testing.assert_allclose(t, transmission, rtol=RTOL, atol=1e-300)
    np.testing.assert_allclose(covered, expected_covered, rtol=RTOL, atol=1e-15)
    np.testing.assert_array_equal(share, np.ones((N, 1, LG_AGE.size)))


def test_power_law(x64):
    """A = av (wave / 5500 A)^slope."""
    for av, slope in ((0.3, -0.7), (0.0, -2.0), (6.0, 0.5), (1.7, -1.3)):
        law = PowerLawDust(av, slope)
        expected = av * (WAVE / 5500.0) ** slope
        np.testing.assert_allclose(law.attenuation(jnp.asarray(WAVE)), expected, rtol=1e-12)
        np.testing.assert_allclose(
            law.transmission(jnp.asarray(WAVE)), 10 ** (-0.4 * expected), rtol=1e-10, atol=1e-300
        )


def test_published_values(x64):
    """k(lambda) of DSPS 0.4.8 at four wavelengths, to the digits given (av = 4.05 makes A = k)."""
    wave = jnp.asarray([1000.0, 2175.0, 5500.0, 22000.0])
    laws = {
        "C00": (Calzetti00(4.05).attenuation(wave), [15.0423, 8.4786, 4.0479, 0.3692]),
        "L02": (attenuation.leitherer02_k(wave), [13.8802, 8.6168, 6.6773, 5.7753]),
        "SBL18(0, 0)": (Salim18(4.05, 0.0, 0.0).attenuation(wave), [13.8802, 8.4786, 4.0479, 0.3692]),
        "N09(1, -.2)": (Noll09(4.05, 1.0, -0.2).attenuation(wave), [19.5318, 11.4111, 4.0535, 0.2800]),
        "SBL18(1, -.2)": (Salim18(4.05, 1.0, -0.2).attenuation(wave), [19.5282, 11.2072, 4.0535, 0.2801]),
    }
    for name, (k, expected) in laws.items():
        np.testing.assert_allclose(k, expected, rtol=0, atol=6e-5, err_msg=name)


@pytest.mark.parametrize("law", ["C00", "L02", "N09_ampl3_slope-0.4", "SBL18_ampl3_slope-0.4"])
def test_table_of_dust_attenuation(law, shared, x64):
    """The package dust_attenuation where it defines a law, to the table's six digits.

    Its A/A_V is our A for av = 1, tilt and bump included: like DSPS and us it divides by 4.05 and does not
    normalise again at V. It differs at one point only: at 0.15 micron itself it has Calzetti's branch in N09 and
    SBL18, where DSPS and we have Leitherer's, a step of 0.2 %.
    """
    with open(shared / "data" / "reference" / "attenuation_A_over_Av.csv") as file:
        rows = list(csv.DictReader(file))
    wave, expected = (np.array([float(row[name]) for row in rows]) for name in ("wave_A", law))
    defined = np.isfinite(expected)
    assert defined.sum() == {"C00": 23, "L02": 5}.get(law, 25)
    models = {
        "C00": lambda wave: Calzetti00(1.0).attenuation(wave),
        "L02": lambda wave: attenuation.leitherer02_k(wave) / 4.05,
        "N09_ampl3_slope-0.4": lambda wave: Noll09(1.0, 3.0, -0.4).attenuation(wave),
        "SBL18_ampl3_slope-0.4": lambda wave: Salim18(1.0, 3.0, -0.4).attenuation(wave),
    }
    ours = np.asarray(models[law](jnp.asarray(wave)))
    seam = (wave == 1500.0) & (law not in ("C00", "L02"))
    np.testing.assert_allclose(ours[defined & ~seam], expected[defined & ~seam], rtol=5.1e-6)
    np.testing.assert_allclose(ours[seam], expected[seam], rtol=2.2e-3)
    above = np.asarray(models[law](jnp.asarray(np.nextafter(wave[seam], 1e9))))
    np.testing.assert_allclose(above, expected[seam], rtol=5.1e-6)
