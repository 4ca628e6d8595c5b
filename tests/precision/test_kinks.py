"""Histories that jump or bend: their masses, and the derivatives with respect to where they do, in closed form."""

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
    jacobian = jax.jacrev(lambda v: moments(history(**dict(zip(names, v, strict=True)))))(
        list(map(jnp.asarray, values))
    )
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
    slopes = [jax.grad(f)(x + step), jax.grad(f)(x - step)]
    np.testing.assert_allclose(jax.hessian(f)(x), (slopes[0] - slopes[1]) / (2 * step), rtol=1e-4)


def test_a_history_may_close_over_a_differentiated_value(x64):
    def f(x):
        class Closed(dspsx.StarFormationHistory):
            def sfr(self, t):
                return x * jnp.exp(-t / x)

        return moments(Closed())[0]

    x = jnp.asarray(2.0)
    np.testing.assert_allclose(jax.grad(f)(x), (f(x + 1e-5) - f(x - 1e-5)) / 2e-5, rtol=1e-6)


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
