"""Surviving mass, bursts and metallicities against dsps: mzr, umzr, diffburst, surviving_mstar, remnant_mass, tables of lgmet."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import dspsx
from dspsx.mass_loss import remnant_fraction
from tests.parity import peers

RTOL = 1e-5
LG_AGE = np.linspace(-3.5, 1.15, 94)
LGMET = np.array([-3.7, -3.2, -2.7, -2.2, -1.9, -1.5])


def close(found, expected, least=0.0):
    np.testing.assert_allclose(np.asarray(found), expected, rtol=RTOL, atol=least)


@pytest.mark.parametrize("imf", ["chabrier", "kroupa", "salpeter", "van_dokkum"])
def test_surviving_mass(imf, peer, x64):
    surviving, remnants = peer(peers.dsps_imf, imf, LG_AGE + 9.0)
    close(dspsx.ImfMassLoss(imf).surviving(jnp.asarray(LGMET), jnp.asarray(LG_AGE))[0], surviving)
    close(remnant_fraction(jnp.asarray(LG_AGE), imf), remnants)
    living = dspsx.ImfMassLoss(imf, remnants=False).surviving(jnp.asarray(LGMET), jnp.asarray(LG_AGE))[0]
    close(living, surviving - remnants)


def test_surviving_mass_of_a_galaxy(x64):
    galaxy = dspsx.GalaxySEDModel(sfh=dspsx.BurstSFH(lg_mass_formed=10.0, age=10.0), redshift=0.01)
    assert abs(float(galaxy.mass_surviving()) / 1e10 - 0.5699) < 2e-3  # the fit's value at 10 Gyr
    same = dspsx.TabulatedMassLoss(LGMET, LG_AGE, np.full((6, 94), 0.25))
    galaxy = dspsx.GalaxySEDModel(sfh=galaxy.sfh, mass_loss=same, redshift=0.01)
    close(galaxy.mass_surviving(), 0.25 * galaxy.mass_formed())


@pytest.mark.parametrize("pivot", ["fixed", "x0"])
def test_mass_metallicity_relation(pivot, peer, x64):
    rng = np.random.default_rng(60)
    n = 200
    low = {"y0": -1.0, "x0": 10.25, "k": 0.5, "slope_lo": 0.1, "slope_hi": 0.0, "c0_y": -2.0, "c1_y": 0.0}
    high = {"y0": 0.25, "x0": 10.75, "k": 2.0, "slope_lo": 1.0, "slope_hi": 0.3, "c0_y": -1.0, "c1_y": 0.5}
    low |= {"c0_slope": -1.5, "c1_slope": 0.0, "tlook_c": 8.44 if pivot == "fixed" else 5.0}
    high |= {"c0_slope": -0.5, "c1_slope": 0.5, "tlook_c": 8.44 if pivot == "fixed" else 11.0}
    params = {name: rng.uniform(low[name], high[name], n) for name in low}
    mass, t = rng.uniform(7.0, 12.0, n), rng.uniform(0.5, 13.8, n)
    median = lambda p, m, t: dspsx.MassMetallicity(**p, pivot=pivot).median(m, t)  # noqa: E731
    found = jax.vmap(median)({k: jnp.asarray(v) for k, v in params.items()}, jnp.asarray(mass), jnp.asarray(t))
    close(found, peer(peers.dsps_mzr, pivot, params, mass, t))


def test_the_two_uses_of_the_relation(x64):
    t_obs, grids = jnp.asarray(9.0), (jnp.asarray(LGMET), jnp.asarray(LG_AGE))
    sfh, relation = dspsx.DelayedTauSFH(lg_mass_formed=10.5), dspsx.MassMetallicity(scatter=0.0)
    observed = relation.weights(*grids, sfh, t_obs)
    assert observed.shape == (6, 1)
    close((observed[:, 0] * LGMET).sum(), relation.median(jnp.asarray(10.5), t_obs))
    formed = dspsx.MassMetallicity(scatter=0.0, when="formed").weights(*grids, sfh, t_obs)
    assert formed.shape == (6, 94)
    for age in (0.1, 1.0, 3.0):
        i = int(np.argmin(np.abs(LG_AGE - np.log10(age))))
        then = t_obs - 10 ** LG_AGE[i]
        # the history's own mass at that time, by its integral to it
        old = sfh.mass_formed(t_obs) - sfh.mean_sfr(t_obs, 10 ** LG_AGE[i]) * 10 ** LG_AGE[i] * 1e9
        expected = relation.median(jnp.log10(old), then)
        np.testing.assert_allclose((formed[:, i] * LGMET).sum(), expected, atol=0.01)


def test_metallicity_table(peer, x64):
    rng = np.random.default_rng(61)
    t_table = np.linspace(0.2, 13.5, 60)
    table = -2.6 + 0.07 * t_table + 0.2 * np.sin(t_table)
    for scatter, t_obs in zip(rng.uniform(0.05, 0.4, 5), rng.uniform(3.0, 13.0, 5), strict=True):
        model = dspsx.TabulatedMetallicity(t_table, table, scatter, scheme="dsps")
        found = model.weights(jnp.asarray(LGMET), jnp.asarray(LG_AGE), dspsx.DelayedTauSFH(), jnp.asarray(t_obs))
        expected = peer(peers.dsps_lgmet_table, t_table, table, scatter, LGMET, LG_AGE, t_obs)
        # dsps lets the columns sum to one together; ages that the universe had not reached are its own business
        known = t_obs - 0.2 > 10**LG_AGE
        close(found[:, known], (expected * LG_AGE.size)[:, known], least=1e-12)
        ours = dspsx.TabulatedMetallicity(t_table, table, scatter)
        weights = ours.weights(jnp.asarray(LGMET), jnp.asarray(LG_AGE), dspsx.DelayedTauSFH(), jnp.asarray(t_obs))
        median = np.interp(np.log10(t_obs - 10 ** LG_AGE[known]), np.log10(t_table), table)
        inside = np.abs(median - np.clip(median, LGMET[0] + 3 * scatter, LGMET[-1] - 3 * scatter)) == 0
        assert inside.any()
        mean = (np.asarray(weights)[:, known] * LGMET[:, None]).sum(0)
        np.testing.assert_allclose(mean[inside], median[inside], atol=1e-6)


def test_bursts(peer, x64):
    rng = np.random.default_rng(62)
    smooth = np.asarray(dspsx.DelayedTauSFH().age_weights(jnp.asarray(LG_AGE), jnp.asarray(9.0)))
    for _ in range(20):
        lgf, peak = rng.uniform(-8, -1), rng.uniform(5.0, 8.0)
        last = rng.uniform(peak + 1.0, 9.0)
        burst = dspsx.WithBurst(dspsx.DelayedTauSFH(), lgf, peak, last, scheme="dsps")
        found = burst.age_weights(jnp.asarray(LG_AGE), jnp.asarray(9.0))
        expected = peer(peers.dsps_burst, (lgf, peak, last), smooth / smooth.sum(), LG_AGE)
        close(found / found.sum(), expected, least=1e-13)


def test_metallicity_that_goes_with_age(x64):
    grids, t_obs, sfh = (jnp.asarray(LGMET), jnp.asarray(LG_AGE)), jnp.asarray(9.0), dspsx.DelayedTauSFH()
    model = dspsx.AgeCorrelatedMDF(lgmet_young=-2.0, lgmet_old=-3.0, lg_age_mid=-0.5, k=4.0, scatter=0.1)
    weights = np.asarray(model.weights(*grids, sfh, t_obs))
    median = -2.0 - 1.0 / (1 + np.exp(-4.0 * (LG_AGE + 0.5)))
    np.testing.assert_allclose((weights * LGMET[:, None]).sum(0), median, atol=1e-12)
    np.testing.assert_allclose(weights.sum(0), 1.0, rtol=1e-12)
    flat = dspsx.AgeCorrelatedMDF(lgmet_young=-2.3, lgmet_old=-2.3, scatter=0.2).weights(*grids, sfh, t_obs)
    close(flat, np.repeat(np.asarray(dspsx.LognormalMDF(-2.3, 0.2).weights(*grids, sfh, t_obs)), 94, axis=1), 1e-12)


def test_gradients_of_magnitudes_with_age_correlation(x64):
    """Every parameter of the model, against central differences."""
    galaxy = dspsx.GalaxySEDModel(
        sfh=dspsx.DelayedTauSFH(age=7.0, tau=3.0), metallicity=dspsx.AgeCorrelatedMDF(), redshift=0.2
    )
    names = ("lgmet_young", "lgmet_old", "lg_age_mid", "k", "scatter")

    @jax.jit
    def magnitudes(x):
        return dspsx.replace(galaxy, lambda g: tuple(getattr(g.metallicity, n) for n in names), tuple(x)).magnitudes()

    x = jnp.asarray([-1.83, -2.37, -0.1, 3.2, 0.21])
    jacobian = jax.jit(jax.jacfwd(magnitudes))(x)
    assert (np.abs(jacobian).max(0) > 1e-3).all()
    for i in range(5):
        step = np.eye(5)[i] * 1e-5
        difference = (magnitudes(x + step) - magnitudes(x - step)) / 2e-5
        np.testing.assert_allclose(jacobian[:, i], difference, rtol=1e-5, atol=1e-7)


def test_distributions_by_brute_force(x64):
    rng = np.random.default_rng(63)
    grids = jnp.asarray(LGMET), jnp.asarray(LG_AGE)
    args = dspsx.DelayedTauSFH(), jnp.asarray(9.0)
    fine = np.linspace(-9.0, 0.0, 900_001)
    hats = np.stack([np.interp(fine, LGMET, row) for row in np.eye(6)])
    for lgmet, scatter in zip(rng.uniform(-4.3, -1.1, 6), rng.uniform(0.02, 0.6, 6), strict=True):
        gaussian = np.exp(-0.5 * ((fine - lgmet) / scatter) ** 2)
        exponential = 10 ** (fine - lgmet) * np.exp(-(10 ** (fine - lgmet)))
        for model, density in (
            (dspsx.LognormalMDF(lgmet, scatter, kernel="gaussian"), gaussian),
            (dspsx.ExponentialMDF(lgmet), exponential),
        ):
            wanted = hats @ density / density.sum()
            np.testing.assert_allclose(model.weights(*grids, *args)[:, 0], wanted, atol=2e-5)
    one = dspsx.DeltaMDF(-2.45).weights(*grids, *args)[:, 0]
    np.testing.assert_allclose(one, [0, 0, 0.5, 0.5, 0, 0], atol=1e-3)


def test_bad_metallicities():
    t = np.linspace(1.0, 13.0, 5)
    with pytest.raises(ValueError, match="one length"):
        dspsx.TabulatedMetallicity(t, np.full(4, -2.0))
    with pytest.raises(ValueError, match="increasing"):
        dspsx.TabulatedMetallicity(t[::-1], np.full(5, -2.0))
    with pytest.raises(ValueError, match=r"MassMetallicity\.when"):
        dspsx.MassMetallicity(when="now")
    with pytest.raises(ValueError, match=r"LognormalMDF.*triweight"):
        dspsx.LognormalMDF(scheme="dsps", kernel="gaussian")
    with pytest.raises(ValueError, match=r"ImfMassLoss\.imf"):
        dspsx.ImfMassLoss("chabrie")
    with pytest.raises(ValueError, match="between 0 and 1"):
        dspsx.TabulatedMassLoss([-3.0, -2.0], [-1.0, 1.0], [[1.0, 2.0], [1.0, 0.5]])
