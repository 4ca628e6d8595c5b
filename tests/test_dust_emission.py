"""Spectra of dust."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

import dspsx
from dspsx import testing

C = 2.99792458e18


def in_hertz(wave, sed):
    return np.trapezoid(np.asarray(sed, float)[::-1], C / np.asarray(wave, float)[::-1])


def brute_force(wave, t, beta, alpha, thick):
    """Casey's equation 3 in SI units, unnormalised."""
    h, k, c = 6.62607015e-34, 1.380649e-23, 2.99792458e8

    def cold(lam):
        return (
            (1 - np.exp(-((thick * 1e-6 / lam) ** beta)))
            * (c / lam) ** 3
            / np.expm1(np.minimum(h * c / (lam * k * t), 600))
        )

    lam = wave * 1e-10
    joint = 0.75e-6 / ((26.68 + 6.246 * alpha) ** -2 + (1.905e-4 + 7.243e-5 * alpha) * t)
    return cold(lam) + cold(joint) / joint**alpha * lam**alpha * np.exp(-((lam / joint) ** 2)) * np.exp(
        -((2e-6 / lam) ** 2)
    )


def test_casey_agrees_with_its_equation_and_is_normalised(precision):
    wave = np.geomspace(3e3, 1e10, 60_000)
    rng, worst = np.random.default_rng(3), 0.0
    for _ in range(40):
        dust = testing.draw(dspsx.Casey12(), rng)
        found = np.asarray(dust.spectrum(jnp.asarray(wave)), float)
        exact = brute_force(wave, *(float(x) for x in (dust.temperature, dust.beta, dust.alpha, dust.thick)))
        exact = exact / in_hertz(wave, exact)
        seen = exact > 1e-6 * exact.max()
        worst = max(worst, np.abs(found / exact - 1.0)[seen].max())
    assert worst < (2e-5 if precision == "float64" else 1e-4)


def test_casey_has_the_slopes_of_its_limits(x64):
    dust = dspsx.Casey12(beta=1.8)
    slope = np.diff(np.log(np.asarray(dust.spectrum(jnp.array([1e9, 1.01e9]))))) / np.log(1.01)
    np.testing.assert_allclose(slope, -3.8, atol=2e-2)
    np.testing.assert_array_equal(dust.spectrum(jnp.array([91.0, 912.0])) < 1e-30, True)


def test_hotter_dust_peaks_at_shorter_wavelengths(x64):
    wave = jnp.asarray(np.geomspace(1e5, 1e7, 4000))
    peaks = [float(wave[jnp.argmax(dspsx.Casey12(temperature=t).spectrum(wave))]) for t in (20.0, 40.0, 80.0)]
    assert peaks[0] > peaks[1] > peaks[2]
    # Casey 2012, figure 2: about 100 micron for 40 K with tau = 1 at 200 micron
    assert 0.8e6 < peaks[1] < 1.4e6


def test_casey_can_be_differentiated_forward_in_its_wien_tail():
    """In float32, also where exp(h nu / k T) and its square are beyond it."""
    wave = jnp.asarray(np.geomspace(91.0, 1e8, 200), jnp.float32)
    slopes = eqx.filter_jit(jax.jacfwd(lambda dust: dust.spectrum(wave) * 1e13))
    rng = np.random.default_rng(5)
    for k in range(80):
        where = None if k < 40 else lambda lo, hi: rng.choice([lo, hi])
        dust = testing.draw(dspsx.Casey12(), rng, where)
        assert all(np.isfinite(x).all() for x in jax.tree.leaves(slopes(dust))), dust
