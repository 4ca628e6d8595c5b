"""What float32 costs: magnitudes and age weights against the same models in float64, from the same numbers."""

import jax
import numpy as np
import pytest

import dspsx
from tests.precision import sampling

pytestmark = pytest.mark.usefixtures("full_compilation")

BANDS = ["galex_*", "lsst_*", "ukirt_j", "ukirt_h", "ukirt_k"]
#: A band fainter than this has no light: float32 ends at 10^-38 maggies, and `magnitudes` holds it at 84.8.
FAINTEST = 84.0
#: Ages in Gyr at which the tables have an entry, then spread over the rest of time.
RECENT = np.array([0, 1e-4, 3e-4, 1e-3, 2e-3, 3e-3, 5e-3, 7e-3, 0.01, 0.015, 0.02, 0.03, 0.05, 0.1, 0.2, 0.3, 0.5])


def recent_bursts(rng, n, z):
    """Tables of a smooth past and a burst that lasts 1 Myr or longer, began 1 to 300 Myr ago, and may go on."""
    with jax.enable_x64(True):
        t_obs = np.asarray(jax.vmap(dspsx.Cosmology().age)(jax.numpy.asarray(z)))
    old = RECENT[-1] + (t_obs[:, None] - RECENT[-1]) * np.linspace(0, 0.99, 40)[1:] ** 1.5
    ages = np.concatenate([np.tile(RECENT, (n, 1)), old], 1)
    t_table = (t_obs[:, None] - ages)[:, ::-1]
    sfr = sampling.tables(rng, n, t_table)["sfr_table"]
    began = 10 ** rng.uniform(-3, np.log10(0.3), (n, 1))
    ended = np.where(rng.random((n, 1)) < 0.5, 0.0, began * rng.uniform(0, 0.7, (n, 1)))
    on = (t_obs[:, None] - t_table <= began) & (t_obs[:, None] - t_table >= ended)
    sfr = sfr + np.where(on, 10 ** rng.uniform(0, 3, (n, 1)), 0.0)
    return {"t_table": t_table.astype(np.float32).astype(float), "sfr_table": sfr.astype(np.float32).astype(float)}


def galaxies(kind, n, seed, z_min=1e-3):
    """Columns of numbers that float32 holds exactly: a history, and the rest of a galaxy."""
    rng = np.random.default_rng(seed)
    rest = sampling.uniform(rng, n, {"redshift": (z_min, 6.0), "lgmet": (-4.2, -1.2), "scatter": (0.0, 0.5)})
    # half of them in log, to reach small redshifts
    rest["redshift"][::2] = (10 ** rng.uniform(np.log10(z_min), np.log10(6.0), n)).astype(np.float32)[::2]
    rest["dust"] = sampling.uniform(rng, n, sampling.DUST)
    make = {
        "diffstar": lambda: sampling.diffstar(rng, n, qlglgdt=(-3.0, -0.01)),
        "delayed tau": lambda: sampling.delayed_tau(rng, n),
        "table": lambda: recent_bursts(rng, n, rest["redshift"]),
    }
    return make[kind](), rest


def in_both(method, kind, sfh, rest):
    result = []
    for x64 in (False, True):
        with jax.enable_x64(x64):
            result.append(sampling.evaluate(method, kind, sfh, rest, BANDS, {}))
    return result


@pytest.mark.parametrize("kind, n", [("diffstar", 400), ("delayed tau", 300), ("table", 300)])
def test_magnitudes(kind, n):
    single, double = in_both(sampling.magnitudes, kind, *galaxies(kind, n, seed=4))
    assert np.isfinite(single).all() and np.isfinite(double).all()
    lit = double < FAINTEST
    error = 1e3 * np.abs(single - double)[lit]
    print(
        f"\n{kind}: worst {error.max():.2g} mmag, 99th percentile {np.quantile(error, 0.99):.2g}, median {np.median(error):.2g}; "
        f"{(~lit).sum()} of {lit.size} bands have no light"
    )
    assert lit.mean() > 0.9
    assert error.max() < 1.0


@pytest.mark.parametrize("kind", ["diffstar", "delayed tau", "table"])
def test_age_weights(kind):
    single, double = in_both(sampling.age_weights, kind, *galaxies(kind, 300, seed=5))
    assert np.isfinite(single).all()
    # relative, for each age by itself, where it holds more than 10^-9 of the mass
    some = double > 1e-9 * double.sum(-1, keepdims=True)
    error = np.abs(single[some] / double[some] - 1)
    total = np.abs(single.sum(-1) / double.sum(-1) - 1)
    print(
        f"\n{kind}: age weights off by {error.max():.2g} at worst, 99th percentile {np.quantile(error, 0.99):.2g}, median "
        f"{np.median(error):.2g}; mass formed by {total.max():.2g}"
    )
    # What is rounded is t_obs (4e-7, six thousand years), so the weights of the youngest ages of a table with entries 10^5
    # years apart, and of ages next to a steep onset; the mass there is small.
    assert np.quantile(error, 0.99) < (2e-3 if kind == "table" else 3e-5)
    assert error.max() < (0.1 if kind == "table" else 2e-3)
    assert total.max() < (5e-4 if kind == "table" else 1e-5)


@pytest.mark.parametrize("covering", [0.0, 0.3, 0.9, 0.99, 0.9999, 1.0])
def test_partial_cover(covering):
    """The light that passes thick dust is not lost in the rounding of one minus one minus it."""
    wave = np.geomspace(1200.0, 24000.0, 300)
    result = []
    for x64 in (False, True):
        with jax.enable_x64(x64):
            mags = []
            for av in (0.0, 0.3, 1.0, 2.0, 4.0, 6.0):
                dust = dspsx.PartialCover(dust=dspsx.Salim18(av=av, delta=0.0), covering=np.float32(covering))
                _, transmission = dust.screens(jax.numpy.asarray(wave, dtype=float), jax.numpy.zeros(2))
                mags.append(-2.5 * np.log10(np.maximum(np.asarray(transmission, float), 1e-30)))
            result.append(np.concatenate(mags))
    error = 1e3 * np.abs(result[0] - result[1]).max()
    print(f"\ncovering {covering}: off by {error:.2g} mmag, where up to {result[1].max():.1f} mag are lost")
    assert error < 1.0
