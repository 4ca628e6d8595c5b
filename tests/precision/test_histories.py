"""Histories with a formula, in bins and composed ones against their formulas, integrated by brute force in NumPy."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import dspsx
from dspsx import testing
from tests.precision import oracle

LG_AGE = np.linspace(-3.5, 1.15, 94)
N = 40


def constant(p, t_obs):
    onset = min(p["age"], t_obs)
    return lambda a: (a <= onset) * 1.0, [onset]


def burst(p, t_obs):
    onset = min(p["age"], t_obs)
    last = onset - min(max(p["duration"], 1e-4 * onset), onset)
    return lambda a: ((a <= onset) & (a >= last)) * 1.0, [onset, last]


def exponential(p, t_obs):
    onset = min(p["age"], t_obs)
    rate = lambda a: np.where(a < onset, np.exp(-np.maximum(onset - a, 0) / p["tau"]), 0.0)  # noqa: E731
    return rate, onset - p["tau"] * np.append(0.0, np.geomspace(1e-3, 40, 600))


def gaussian(p, t_obs):
    peak = min(p["age"], t_obs)
    return lambda a: np.exp(-0.5 * ((a - peak) / p["sigma"]) ** 2), peak + p["sigma"] * np.linspace(-8, 8, 600)


def lognormal(p, t_obs):
    tau = np.arcsinh(p["fwhm"] / 2 / p["t_peak"]) / np.sqrt(2 * np.log(2))
    t0 = np.log(p["t_peak"]) + tau**2
    # relative to its greatest value up to t_obs, or float64 cannot hold it
    power = lambda t: -0.5 * ((np.log(t) - t0) / tau) ** 2 - np.log(t)  # noqa: E731
    top = power(min(p["t_peak"], t_obs))
    rate = lambda a: np.exp(power(np.maximum(t_obs - a, 1e-9)) - top)  # noqa: E731
    late = min(t0, np.log(t_obs))
    return rate, t_obs - np.exp(late + tau * np.concatenate([np.linspace(-9, 9, 900), -np.geomspace(1e-6, 1, 300)]))


def double_power_law(p, t_obs):
    shape = lambda x: -np.logaddexp(p["alpha"] * x, -p["beta"] * x)  # noqa: E731
    x = lambda a: np.log(np.maximum(t_obs - a, 1e-9) / p["tau"])  # noqa: E731
    late = min(p["tau"], t_obs)
    top = shape(np.log(late / p["tau"]))
    steps = np.concatenate([-np.geomspace(1e-7, 3, 900), np.geomspace(1e-7, 3, 900)])
    return lambda a: np.exp(shape(x(a)) - top), t_obs - late * np.exp(steps)


FORMULAS = {
    "ConstantSFH": constant,
    "BurstSFH": burst,
    "ExponentialSFH": exponential,
    "GaussianSFH": gaussian,
    "LognormalSFH": lognormal,
    "DoublePowerLawSFH": double_power_law,
}


def expected(formula, p, t_obs):
    rate, marks = formula(p, t_obs)
    age, width = oracle.age_nodes(marks, t_obs, LG_AGE, 3000)
    mass = 10 ** p["lg_mass_formed"] / (rate(age) * width).sum()
    return oracle.age_weights(oracle.History(lambda a: rate(a) * mass / 1e9, marks), t_obs, LG_AGE, 3000)


def assert_close(found, wanted, tolerance):
    """Of the mass, and of light that fades as age^-0.7."""
    for light in (1.0, 10 ** (-0.7 * LG_AGE)):
        error = (np.abs(found - wanted) * light).sum(-1) / (wanted * light).sum(-1)
        assert error.max() < tolerance, error.max()


@eqx.filter_jit
def age_weights(sfh, t_obs):
    return sfh.age_weights(jnp.asarray(LG_AGE, t_obs.dtype), t_obs)


@eqx.filter_jit
def _weights(batch, t_obs):
    return eqx.filter_vmap(age_weights, in_axes=(dspsx.batch_axes(batch), None))(batch, t_obs)


def weights(batch, t_obs):
    return np.asarray(_weights(batch, jnp.asarray(t_obs, float)), float)


@pytest.mark.parametrize("name", FORMULAS)
def test_formula(name, precision):
    rng = np.random.default_rng(20)
    batch = dspsx.stack([testing.draw(getattr(dspsx, name)(), rng) for _ in range(N)])
    values = {key: np.asarray(x, float) for key, (_, x) in dspsx.named_parameters(batch).items()}
    for t_obs in (13.5, 2.0):
        found = weights(batch, t_obs)
        wanted = np.stack([expected(FORMULAS[name], {k: v[i] for k, v in values.items()}, t_obs) for i in range(N)])
        assert_close(found, wanted, 3e-4 if precision == "float64" else 1e-3)
        np.testing.assert_allclose(found.sum(1), 10 ** values["lg_mass_formed"], rtol=3e-4)


def test_the_rate_at_a_time_is_that_of_the_formula(x64):
    t = jnp.linspace(0.3, 8.9, 40)
    sfh = dspsx.ExponentialSFH(lg_mass_formed=10.0, age=7.0, tau=2.0)
    onset = 9.0 - 7.0
    s = np.asarray(t) - onset
    wanted = np.where(s > 0, 10.0 / 2.0 / (1 - np.exp(-3.5)) * np.exp(-s / 2.0), 0.0)
    np.testing.assert_allclose(sfh.sfr(t, t_obs=9.0), wanted, rtol=1e-12)
    assert (np.asarray(sfh.sfr(jnp.asarray([9.5, 12.0]), t_obs=9.0)) == 0).all()
    peak = dspsx.LognormalSFH(t_peak=3.0, fwhm=4.0)
    rate = np.asarray(peak.sfr(jnp.asarray([2.99, 3.0, 3.01])))
    assert rate[1] > rate[0] and rate[1] > rate[2]
    fine = np.linspace(0.01, 13.0, 200_001)
    above = fine[np.asarray(peak.sfr(jnp.asarray(fine))) > rate[1] / 2]
    np.testing.assert_allclose(above[-1] - above[0], 4.0, atol=1e-3)


def test_bins_follow_the_age_of_the_universe(precision):
    ratios = np.array([0.3, -0.2, 0.0, 0.5, -1.0, 0.1])
    sfh = dspsx.ContinuitySFH(lg_mass_formed=10.0, lg_sfr_ratios=ratios)
    for t_obs in (13.0, 2.0, 0.3):
        edges, rates = (np.asarray(x, float) for x in sfh.bins(jnp.asarray(t_obs, float)))
        assert (np.diff(edges) > 0).all() and edges[0] == 0
        np.testing.assert_allclose(edges[-2:], [0.85 * t_obs, t_obs], rtol=1e-5)
        if t_obs > 0.4:
            np.testing.assert_allclose(edges[1:3], [0.03, 0.1], rtol=1e-5)
            np.testing.assert_allclose(np.diff(np.log(edges[2:-1])), np.log(0.85 * t_obs / 0.1) / 4, rtol=1e-4)
        np.testing.assert_allclose(np.log10(rates[:-1] / rates[1:]), ratios, atol=1e-5)
        np.testing.assert_allclose((rates * np.diff(edges)).sum() * 1e9, 1e10, rtol=1e-5)
        step = oracle.History(lambda a: rates[np.clip(np.searchsorted(edges, a) - 1, 0, 6)], edges)  # noqa: B023
        wanted = oracle.age_weights(step, t_obs, LG_AGE)
        assert_close(weights(dspsx.stack([sfh]), t_obs), wanted[None], 1e-4)


def test_dirichlet_sticks(x64):
    flat = dspsx.DirichletSFH(lg_mass_formed=9.0)
    _, rates = flat.bins(jnp.asarray(10.0))
    np.testing.assert_allclose(rates, 0.1, rtol=1e-12)  # 1e9 Msun in 10 Gyr
    some = dspsx.DirichletSFH(lg_mass_formed=9.0, z_fraction=np.array([0.5, 0.2, 0.9]))
    edges, rates = some.bins(jnp.asarray(10.0))
    assert rates.size == 4
    shares = np.array([0.5, 0.5 * 0.8, 0.5 * 0.2 * 0.1, 0.5 * 0.2 * 0.9])
    np.testing.assert_allclose(rates / rates.sum(), shares, rtol=1e-12)
    assert some.bins(jnp.asarray(10.0))[0].size == edges.size


def test_sums_scales_and_bursts(precision):
    rtol = 1e-5 if precision == "float32" else 1e-12
    t_obs = jnp.asarray(9.0, float)
    old, young = dspsx.DelayedTauSFH(), dspsx.ConstantSFH(lg_mass_formed=8.0, age=0.2)
    both = dspsx.SumSFH(parts=(old, young))
    wanted = age_weights(old, t_obs) + age_weights(young, t_obs)
    np.testing.assert_allclose(age_weights(both, t_obs), wanted, rtol=rtol)
    np.testing.assert_allclose(both.mass_formed(t_obs), 1e10 + 1e8, rtol=1e-5)
    np.testing.assert_allclose(both.sfr_now(t_obs), old.sfr_now(t_obs) + young.sfr_now(t_obs), rtol=rtol)

    shape = dspsx.DiffstarSFH()
    free = dspsx.NormalisedSFH(shape, lg_mass_formed=9.3)
    np.testing.assert_allclose(age_weights(free, t_obs).sum(), 10**9.3, rtol=1e-5)
    weights_of = [np.asarray(age_weights(sfh, t_obs), float) for sfh in (free, shape)]
    scale = 10**9.3 / weights_of[1].sum()
    np.testing.assert_allclose(weights_of[0], scale * weights_of[1], rtol=1e-5)
    np.testing.assert_allclose(free.mass_formed(t_obs), 10**9.3, rtol=1e-5)

    burst = dspsx.WithBurst(old, lgfburst=-1.0, lgyr_peak=7.0, lgyr_max=8.4)
    smooth, with_burst = age_weights(old, t_obs), age_weights(burst, t_obs)
    np.testing.assert_allclose(with_burst.sum(), smooth.sum(), rtol=1e-5)
    np.testing.assert_allclose(burst.mass_formed(t_obs), smooth.sum(), rtol=1e-5)
    extra = np.asarray(with_burst - 0.9 * smooth, float) / float(smooth.sum())
    assert extra[LG_AGE > -0.55].max() < 1e-6  # older than 10^8.4 yr, and one cell: none
    np.testing.assert_allclose((extra * (LG_AGE + 9)).sum() / extra.sum(), 7.0, atol=1e-3)
    # the rate and the weights are the same burst
    recent = np.asarray(burst.mean_sfr(t_obs, 0.3) - 0.9 * old.mean_sfr(t_obs, 0.3), float) * 3e8 / 1e10
    np.testing.assert_allclose(recent, 0.1, rtol=1e-4)


@pytest.mark.parametrize(("peak", "last"), [(5.5, 7.0), (5.45, 8.8), (5.0, 9.0), (7.0, 8.5)])
def test_recent_rates_hold_all_of_a_burst(peak, last, precision):
    """However many dex of age it spreads over."""
    rtol = 2e-5 if precision == "float32" else 1e-6
    burst = dspsx.WithBurst(dspsx.ConstantSFH(age=12.0), lgfburst=-1.0, lgyr_peak=peak, lgyr_max=last)
    scatter = max(last - peak, 1.0) / 3.0
    lg_age = peak + scatter * np.linspace(-3.0, 3.0, 20001)
    kernel = (1 - ((lg_age - peak) / (3 * scatter)) ** 2) ** 3
    for timescale in (0.001, 0.01, 0.1, 2.0):
        younger = np.where(lg_age <= np.log10(timescale) + 9, kernel, 0.0).sum() / kernel.sum()
        wanted = (0.1 * younger + 0.9 * timescale / 12.0) * 10 / timescale
        np.testing.assert_allclose(burst.mean_sfr(13.0, timescale), wanted, rtol=max(rtol, 2e-4))
        for whole in (
            dspsx.SumSFH(parts=(burst, burst)),
            dspsx.NormalisedSFH(burst, lg_mass_formed=10.0 + np.log10(2)),
        ):
            np.testing.assert_allclose(whole.mean_sfr(13.0, timescale), 2 * burst.mean_sfr(13.0, timescale), rtol=rtol)
    np.testing.assert_allclose(burst.mass_formed(13.0), 1e10, rtol=rtol)
    old = (0.1 * (kernel * 10 ** (lg_age - 9)).sum() / kernel.sum() + 0.9 * 6.0) / 1.0
    np.testing.assert_allclose(burst.mean_age(13.0), old, rtol=1e-4)


def test_a_shape_without_stars_stays_without(precision):
    none = dspsx.TabulatedSFH(t_table=jnp.asarray([1.0, 2.0]), sfr_table=jnp.zeros(2))
    scaled = dspsx.NormalisedSFH(none)
    slopes = jax.grad(lambda sfh: sfh.mass_formed(5.0) + age_weights(sfh, jnp.asarray(5.0)).sum())(scaled)
    assert float(scaled.mass_formed(5.0)) == 0.0 and float(age_weights(scaled, jnp.asarray(5.0)).sum()) == 0.0
    assert all(np.isfinite(x).all() for x in jax.tree.leaves(slopes))


def test_a_narrow_lognormal_forms_its_mass(precision):
    sfh = dspsx.LognormalSFH(t_peak=3.0, fwhm=0.1)
    for mass in (sfh.mass_formed(13.79), age_weights(sfh, jnp.asarray(13.79)).sum()):
        np.testing.assert_allclose(mass, 1e10, rtol=2e-5 if precision == "float64" else 3e-4)


def test_bad_histories():
    with pytest.raises(TypeError, match=r"SumSFH\.parts"):
        dspsx.SumSFH(parts=(dspsx.ConstantSFH(), 3.0))
    with pytest.raises(TypeError, match=r"SumSFH\.parts"):
        dspsx.SumSFH(parts=())
    with pytest.raises(TypeError, match=r"WithBurst\.sfh"):
        dspsx.WithBurst(dspsx.Calzetti00())
    with pytest.raises(ValueError, match=r"WithBurst\.scheme"):
        dspsx.WithBurst(scheme="fsps")
    with pytest.raises(ValueError, match=r"lg_sfr_ratios must be an array"):
        dspsx.ContinuitySFH(lg_sfr_ratios=0.3)


@pytest.mark.parametrize("t_obs", [9.3, 20.0])
def test_ages_of_the_grid_have_derivatives(t_obs, x64):
    """Of an integral between ages, some of which begin the window, or a cell with a break in it."""
    sfh, ages = dspsx.ConstantSFH(lg_mass_formed=10.0, age=5.0), jnp.linspace(-3.5, 1.15, 60)

    @jax.jit
    def light(ages):
        return (sfh.age_weights(ages, t_obs) * np.sin(1.7 * np.arange(ages.size))).sum() / 1e10

    steps = 1e-5 * np.eye(ages.size)[40:]
    wanted = np.array([(light(ages + d) - light(ages - d)) / 2e-5 for d in steps])
    np.testing.assert_allclose(jax.grad(light)(ages)[40:], wanted, atol=1e-3 * np.abs(wanted).max())
