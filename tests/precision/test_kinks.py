"""Histories that jump or bend: their masses, and the derivatives with respect to where they do, in closed form."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

import dspsx
from dspsx._model import Scalar, param
from dspsx._numerics import outer, sum_of_products

T_OBS = 9.0
LG_AGE = np.linspace(-3.5, 1.15, 94)


class TopHat(dspsx.StarFormationHistory):
    """One Msun/yr between two times."""

    start: Scalar = param(3.1, bounds=(0.0, 14.0), unit="Gyr", doc="first star")
    stop: Scalar = param(7.9, bounds=(0.0, 14.0), unit="Gyr", doc="last star")

    def sfr(self, t):
        return jnp.where((t > self.start) & (t < self.stop), 1.0, 0.0)

    def breaks(self, t_obs):
        return jnp.stack([self.start, self.stop])


class Tent(dspsx.StarFormationHistory):
    """Rises from nothing at `start` to one Msun/yr at `top`, and falls to nothing at `stop`."""

    start: Scalar = param(3.1, bounds=(0.0, 14.0), unit="Gyr", doc="first star")
    top: Scalar = param(8.2, bounds=(0.0, 14.0), unit="Gyr", doc="highest rate")
    stop: Scalar = param(8.9, bounds=(0.0, 14.0), unit="Gyr", doc="last star")

    def sfr(self, t):
        rise, fall = (t - self.start) / (self.top - self.start), (self.stop - t) / (self.stop - self.top)
        return jnp.maximum(jnp.minimum(rise, fall), 0.0)

    def breaks(self, t_obs):
        return jnp.stack([self.start, self.top, self.stop])


def moments(sfh):
    """Mass in Gyr Msun/yr, and mean of log age times mass: the hat functions keep both."""
    weights = sfh.age_weights(jnp.asarray(LG_AGE, jnp.zeros(()).dtype), jnp.asarray(T_OBS, jnp.zeros(()).dtype)) / 1e9
    return jnp.stack([weights.sum(), weights @ jnp.asarray(LG_AGE, weights.dtype)])


def by_hand(rate, points, n=40_000):
    """The same two integrals by the midpoint rule, between points where the rate is smooth."""
    total = np.zeros(2)
    for a, b in itertools.pairwise(points):
        t = a + (b - a) * (np.arange(n) + 0.5) / n
        total += np.array([rate(t).sum(), (rate(t) * np.log10(T_OBS - t)).sum()]) * (b - a) / n
    return total


@pytest.mark.parametrize("history", [TopHat, Tent])
def test_masses_and_their_derivatives(history, precision):
    rtol = {"float32": 2e-5, "float64": 1e-6}[
        precision
    ]  # of float32's rounding; of the midpoint rule and of differences
    sfh = history()
    names = list(dspsx.named_parameters(sfh))
    values = np.array([float(getattr(sfh, name)) for name in names])

    def exact(values):
        if history is TopHat:
            return by_hand(lambda t: np.ones_like(t), values)
        start, top, stop = values
        tent = lambda t: np.minimum((t - start) / (top - start), (stop - t) / (stop - top))  # noqa: E731
        return by_hand(tent, values)

    np.testing.assert_allclose(moments(sfh), exact(values), rtol=rtol)
    of_values = jax.jit(jax.jacrev(lambda v: moments(history(**dict(zip(names, v, strict=True))))))
    jacobian = of_values(list(map(jnp.asarray, values)))
    for i, slope in enumerate(jacobian):
        step = 1e-4 * np.eye(len(names))[i]
        difference = (exact(values + step) - exact(values - step)) / 2e-4
        np.testing.assert_allclose(slope, difference, rtol=max(rtol, 1e-5), atol=1e-5, err_msg=names[i])


def test_products_and_their_derivatives(x64):
    rng = np.random.default_rng(0)
    a, b, parts = (jnp.asarray(rng.normal(size=shape)) for shape in ((3,), (2, 5), (2, 12)))
    np.testing.assert_allclose(outer(a, b), np.einsum("i,rj->rij", a, b).reshape(2, 15))
    np.testing.assert_allclose(sum_of_products(a, parts), np.einsum("i,rij->rj", a, np.reshape(parts, (2, 3, 4))))
    on_arrays = lambda f: lambda *xs: f(*map(jnp.asarray, xs))  # noqa: E731
    check_grads(on_arrays(outer), (a, b), order=2, modes=("fwd", "rev"))
    check_grads(on_arrays(sum_of_products), (a, parts), order=2, modes=("fwd", "rev"))


@pytest.mark.parametrize("kind", ["delayed tau", "diffstar"])
def test_second_derivatives_where_a_history_bends(kind, x64):
    def f(x):
        if kind == "delayed tau":
            sfh = dspsx.DelayedTauSFH(lg_mass_formed=10.0, age=x, tau=1.0)
        else:
            sfh = dspsx.DiffstarSFH(mah=dspsx.DiffmahHalo(t_peak=x))
        return jnp.log(moments(sfh)[0] * 20.0 - moments(sfh)[1])

    x, step = jnp.asarray(6.0), 1e-3
    slope = jax.jit(jax.grad(f))
    slopes = [slope(x + step), slope(x - step)]
    np.testing.assert_allclose(jax.jit(jax.hessian(f))(x), (slopes[0] - slopes[1]) / (2 * step), rtol=1e-4)


def test_a_history_may_close_over_a_differentiated_value(x64):
    def f(x):
        class Closed(dspsx.StarFormationHistory):
            def sfr(self, t):
                return x * jnp.exp(-t / x)

        return moments(Closed())[0]

    x = jnp.asarray(2.0)
    np.testing.assert_allclose(jax.grad(f)(x), (f(x + 1e-5) - f(x - 1e-5)) / 2e-5, rtol=1e-6)


def colour_like(sfh, t_obs=T_OBS):
    """Light of populations that fade with age."""
    lg_age = jnp.asarray(np.sort(np.append(LG_AGE, np.log10([0.1, 1.0, 5.0]))), jnp.zeros(()).dtype)
    return jnp.log(sfh.age_weights(lg_age, jnp.asarray(t_obs, lg_age.dtype)) @ jnp.exp(-1.5 * lg_age))


ON_THE_GRID = {
    "constant": lambda age: dspsx.ConstantSFH(age=age),
    "exponential": lambda age: dspsx.ExponentialSFH(age=age, tau=3.0),
    "burst": lambda age: dspsx.BurstSFH(age=age),
    "with burst": lambda age: dspsx.WithBurst(dspsx.ConstantSFH(age=age), lgfburst=-2.0),
    "normalised": lambda age: dspsx.NormalisedSFH(dspsx.ExponentialSFH(age=age, tau=3.0)),
}


@functools.cache
def slopes(name):
    """Derivatives of the light and of the mass formed with respect to the age, compiled once for every age."""
    sfh = ON_THE_GRID[name]
    light, mass = lambda a: colour_like(sfh(a)), lambda a: jnp.log(sfh(a).mass_formed(T_OBS))
    return jax.jit(jax.grad(light)), jax.jit(jax.grad(mass))


@pytest.mark.parametrize("age", [0.1, 1.0, 5.0])
@pytest.mark.parametrize("name", list(ON_THE_GRID))
def test_a_step_at_an_age_of_the_grid(name, age, precision):
    """The derivative, and that of the mass formed, which is none: the step is where a cell ends, to rounding."""
    of_light, of_mass = slopes(name)
    age = jnp.asarray(age)
    near = [of_light(age * (1 + d)) for d in (-1e-3, 1e-3)]
    for x in (age, jnp.nextafter(age, age * 0), jnp.nextafter(age, age * 2)):
        np.testing.assert_allclose(of_light(x), np.mean(near), rtol=1e-3)
        np.testing.assert_allclose(of_mass(x) * age, 0.0, atol=1e-4)


def test_steps_of_two_histories_at_one_age(x64):
    """Each may move alone; and `breaks`, which a wrapper of the user's may ask for, knows of them."""
    mass = lambda a: dspsx.SumSFH((dspsx.ExponentialSFH(age=a), dspsx.ConstantSFH(age=5.0))).mass_formed(T_OBS)  # noqa: E731
    np.testing.assert_allclose(jax.jit(jax.grad(mass))(jnp.asarray(5.0)), 0.0, atol=1e3)  # of 1e10
    np.testing.assert_allclose(dspsx.ConstantSFH(age=5.0).breaks(jnp.asarray(T_OBS)), [T_OBS - 5.0])


@pytest.mark.parametrize("n_bins", [7, 12])
def test_bins_with_an_edge_at_an_age_of_the_grid(n_bins, x64):
    """0.03 and 0.1 Gyr are edges at any time of observation; the others follow it."""
    sfh = dspsx.ContinuitySFH(lg_sfr_ratios=np.linspace(-1.0, 1.5, n_bins - 1))
    light = jax.jit(lambda t: colour_like(sfh, t))
    slope, step = jax.grad(light)(jnp.asarray(T_OBS)), 1e-5
    np.testing.assert_allclose(slope, (light(T_OBS + step) - light(T_OBS - step)) / (2 * step), rtol=1e-5)


@pytest.mark.parametrize("duration", [1e-5, 1e-4, 1e-3])
def test_a_short_burst_forms_its_mass(duration, precision):
    """In float32 too: its ages are not rounded by the age of the universe."""
    for age in (1e-3, 0.0103, 0.5, 3.0):
        sfh = dspsx.BurstSFH(age=age, duration=duration)
        for mass in (moments(sfh)[0] * 1e9, sfh.mass_formed(T_OBS)):
            np.testing.assert_allclose(mass, 1e9, rtol=1e-6)


@pytest.mark.parametrize("t_obs", [0.18, 1.2, 3.3, 8.6])
def test_a_lognormal_that_has_hardly_begun(t_obs, precision):
    for t_peak, fwhm in ((15.0, 0.1), (20.0, 0.1), (20.0, 0.5)):
        sfh = dspsx.LognormalSFH(t_peak=t_peak, fwhm=fwhm)
        np.testing.assert_allclose(sfh.mass_formed(t_obs), 1e10, rtol=1e-3)


def test_a_burst_does_not_begin_before_the_big_bang(x64):
    t_obs, ages = 0.18, np.geomspace(1e-5, 0.18, 20_001)
    sfh = dspsx.WithBurst(dspsx.ConstantSFH(age=0.1), lgfburst=-1.0, lgyr_peak=8.0, lgyr_max=9.0)
    rate = sfh.rate(jnp.asarray(ages), jnp.asarray(t_obs))
    np.testing.assert_allclose(np.trapezoid(rate * ages, np.log(ages)) * 1e9, 1e10, rtol=1e-3)
    np.testing.assert_allclose(sfh.mass_formed(t_obs), 1e10, rtol=1e-5)
    weights = sfh.age_weights(jnp.asarray(LG_AGE), jnp.asarray(t_obs))
    np.testing.assert_allclose(weights.sum(), 1e10, rtol=1e-5)
    assert weights[np.log10(t_obs) + 0.05 < LG_AGE].sum() < 1e-9 * 1e10


def test_a_mass_formed_in_the_first_ten_million_years(x64):
    """What a halo forms before a hundredth of the age of the universe counts in the mass formed as in the weights."""
    mah = dspsx.DiffmahHalo(logm0=13.5, logtc=0.77, early_index=5.98, late_index=0.155)
    sfh = dspsx.DiffstarSFH(mah=mah, lgmcrit=11.04, indx_lo=3.4, indx_hi=-4.96, lg_qt=1.7, lg_drop=-0.5)
    t = np.geomspace(1e-5, T_OBS, 200_001)
    dense = np.trapezoid(np.asarray(sfh.sfr(jnp.asarray(t))) * t, np.log(t)) * 1e9
    np.testing.assert_allclose(sfh.mass_formed(T_OBS), dense, rtol=1e-3)


FIXED_MASS = [
    dspsx.ConstantSFH(),
    dspsx.ExponentialSFH(),
    dspsx.DelayedTauSFH(),
    dspsx.BurstSFH(age=9.0),
    dspsx.GaussianSFH(sigma=5.0),
    dspsx.LognormalSFH(),
    dspsx.DoublePowerLawSFH(),
]


@pytest.mark.parametrize("sfh", FIXED_MASS, ids=lambda sfh: type(sfh).__name__)
def test_a_mass_that_is_given_does_not_change_with_the_time_of_observation(sfh, x64):
    """Also where a history begins at the Big Bang, which moves away from the observation as that does."""
    lg_age = jnp.asarray(LG_AGE)
    sfh = jax.tree.map(lambda x: jnp.asarray(x, float), sfh)
    given = 10**sfh.lg_mass_formed
    mass = jax.jit(jax.value_and_grad(lambda t: sfh.age_weights(lg_age, t).sum() / given))
    for t in (0.3, 0.9, 2.0, 4.7, 9.1, 13.8):
        value, slope = mass(jnp.asarray(t))
        assert abs(value - 1) < 1e-3 and abs(slope) * t < 2e-3, (t, value, slope)
