"""The default weights against brute force: the error that a magnitude owes to them.

100 random galaxies of each kind of history, z = 0 to 6, 10 bands from FUV to K, at rest and observed. `pytest -s` shows the
errors reached.
"""

import numpy as np
import pytest

import dspsx
from tests.precision import oracle, sampling

pytestmark = pytest.mark.usefixtures("full_compilation")

BANDS = ["galex_fuv", "galex_nuv", "sdss_*", "twomass_j", "twomass_ks", "ukirt_k"]
UNIVERSE = oracle.FlatUniverse(om0=0.3, h=0.7)
COSMOLOGY = {"Om0": 0.3, "h": 0.7, "Tcmb0": 0.0, "Neff": 0.0, "m_nu": 0.0}
T_TABLE = np.geomspace(0.05, 14.0, 80).astype(np.float32).astype(float)
T0, FB = 13.8, 0.156


def the_rest(rng, n):
    grid = np.asarray(dspsx.SSPGrid.default().lgmet, float)
    rest = sampling.uniform(rng, n, {"redshift": (0, 6), "lgmet": (grid[0], grid[-1]), "scatter": (0, 0.5)})
    rest["redshift"][:2] = 0
    rest["scatter"][2:12] = 0
    return rest


class BruteForce:
    """The oracle on a grid and bands, in their units."""

    def __init__(self):
        grid = dspsx.SSPGrid.default()
        self.lgmet, self.lg_age, self.wave = (np.asarray(x, float) for x in (grid.lgmet, grid.lg_age, grid.wave))
        self.flux = np.asarray(grid.flux, float)
        self.curves = [(w.astype(float), t.astype(float)) for w, t in dspsx.FilterSet.load(BANDS).curves()]
        self.at_rest = self.flux @ oracle.band_matrix(self.wave, self.curves, 0)

    def magnitudes(self, kind, p, rest, **resolution):
        """At rest, and observed."""
        z = rest["redshift"]
        t_obs = UNIVERSE.age(z)
        if kind == "diffstar":
            history = oracle.diffstar(p | {"t0": T0, "fb": FB}, t_obs)
        elif kind == "delayed tau":
            history = oracle.delayed_tau(p, t_obs)
        else:
            history = oracle.tabulated(p["t_table"], p["sfr_table"], t_obs)
        light = np.concatenate([self.at_rest, self.flux @ oracle.band_matrix(self.wave, self.curves, z)], -1)
        total = oracle.population_light(
            history, t_obs, rest["lgmet"], rest["scatter"], self.lgmet, self.lg_age, light, **resolution
        )
        rest_frame, observed = np.split(total, 2)
        return oracle.absolute_mag(rest_frame), oracle.apparent_mag(observed, z, UNIVERSE)


@pytest.fixture
def brute_force(x64):
    return BruteForce()


def compare(brute_force, kind, p, rest):
    """Errors (galaxy, rest or observed, band) in mmag."""
    ours = np.stack(sampling.evaluate(sampling.both_magnitudes, kind, p, rest, BANDS, COSMOLOGY), 1)
    n = rest["redshift"].size
    truth = np.stack([brute_force.magnitudes(kind, sampling.row(p, i), sampling.row(rest, i)) for i in range(n)])
    assert np.isfinite(truth).all()
    finer = [
        brute_force.magnitudes(kind, sampling.row(p, i), sampling.row(rest, i), n=8000, n_met=602)
        for i in range(0, n, 20)
    ]
    assert np.abs(np.stack(finer) - truth[::20]).max() < 2e-5, "the oracle has not converged"
    return 1e3 * np.abs(ours - truth)


def report(title, error):
    at_rest, observed = error[:, 0], error[:, 1]
    print(
        f"\n{title}: worst {at_rest.max():.2g} mmag at rest, {observed.max():.2g} observed; median {np.median(error):.2g}; "
        f"99th percentile {np.quantile(error, 0.99):.2g}"
    )


def parameters(kind, rng, n):
    if kind == "table":
        return {"t_table": np.tile(T_TABLE, (n, 1))} | sampling.tables(rng, n, T_TABLE)
    return {"diffstar": sampling.diffstar, "delayed tau": sampling.delayed_tau}[kind](rng, n)


@pytest.mark.parametrize("kind", ["diffstar", "delayed tau", "table"])
def test_smooth_histories(kind, brute_force):
    rng = np.random.default_rng(1)
    rest = the_rest(rng, 100)
    error = compare(brute_force, kind, parameters(kind, rng, 100), rest)
    report(kind, error)
    assert error.max() < 2.0


def test_fast_quenching(brute_force):
    """A quenching event of 10^-3 dex of time, thirty kiloyears at 10 Gyr, falls between no nodes."""
    rng = np.random.default_rng(2)
    n = 100
    rest = the_rest(rng, n)
    p = sampling.diffstar(rng, n, qlglgdt=(-3.0, -1.0))
    # half of them quench within the last 300 Myr, where the ultraviolet sees each Myr
    recent = np.log10(UNIVERSE.age(rest["redshift"]) - 10 ** rng.uniform(-3.5, -0.5, n))
    p["lg_qt"][::2] = np.clip(recent, 0.1, 2.0)[::2].astype(np.float32)
    error = compare(brute_force, "diffstar", p, rest)
    report("fast quenching", error)
    assert error.max() < 2.0


@pytest.mark.parametrize("kind", ["diffstar", "delayed tau", "table"])
def test_age_weights(kind, x64):
    """Each weight by itself, and the mass formed."""
    rng = np.random.default_rng(3)
    n = 30
    rest, p = the_rest(rng, n), parameters(kind, rng, n)
    ours = sampling.evaluate(sampling.age_weights, kind, p, rest, BANDS, COSMOLOGY, chunk=n)
    brute = BruteForce()
    for i in range(n):
        q, t_obs = sampling.row(p, i), UNIVERSE.age(rest["redshift"][i])
        history = {
            "diffstar": lambda: oracle.diffstar(q | {"t0": T0, "fb": FB}, t_obs),  # noqa: B023
            "delayed tau": lambda: oracle.delayed_tau(q, t_obs),  # noqa: B023
            "table": lambda: oracle.tabulated(q["t_table"], q["sfr_table"], t_obs),  # noqa: B023
        }[kind]()
        truth = oracle.age_weights(history, t_obs, brute.lg_age)
        np.testing.assert_allclose(ours[i], truth, rtol=2e-3, atol=1e-6 * truth.sum())
        np.testing.assert_allclose(ours[i].sum(), truth.sum(), rtol=1e-4)
