"""Compressed galaxies: as exact as they are certified to be, with the same gradients, and refused where they do not hold."""

import dataclasses
import functools
import inspect
import pickle

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.interpolate

import dspsx
from dspsx import FilterSet, testing, units
from dspsx._model import Scalar, param
from dspsx._progress import Progress
from dspsx.compressed import build, errors, examples, tables
from dspsx.compressed.band_nodes import projection
from dspsx.compressed.errors import MMAG

LO, HI, N = 0.2, 0.5, 24
EDGES = (4400.0, 6600.0)  # of fake_green, Angstrom


class Kinked(dspsx.DustLaw):
    """A user's law: a power law with a kink and a smooth bump."""

    av: Scalar = param(0.4, bounds=(0.0, 5.0), unit="mag", doc="attenuation at 5500 A")
    bump: Scalar = param(0.5, bounds=(0.0, 2.0), unit="mag", doc="height at 2600 A")

    def attenuation(self, wave):
        bump = self.bump * jnp.exp(-0.5 * ((wave - 2600.0) / 200.0) ** 2)
        return self.av * jnp.minimum((wave / 5500.0) ** -0.7, (wave / 5500.0) ** -1.3) + bump


class BirthCloud(dspsx.DustModel):
    """Two screens: all stars behind one, those younger than 10 Myr behind another one, too."""

    law: dspsx.DustLaw = eqx.field(default_factory=Kinked)
    tau: Scalar = param(0.5, bounds=(0.0, 4.0), doc="optical depth of birth clouds at 5500 A")

    def screens(self, wave, lg_age):
        young = jax.nn.sigmoid(-(lg_age + 2.0) / 0.1)
        old = self.law.transmission(wave)
        return jnp.stack([1.0 - young, young]), jnp.stack([old, old * jnp.exp(-self.tau * (wave / 5500.0) ** -1.3)])


class Lines(dspsx.EmissionLines):
    """Lines of young stars: just inside both edges of the green band at z = 0.3, in its middle, and in no band at all."""

    strength: Scalar = param(50.0, bounds=(0.0, 200.0), unit="Lsun/Msun", doc="luminosity of each line")

    def luminosities(self, ssp, weights):
        wave = jnp.asarray([EDGES[0] * 1.05 / 1.3, 5500.0 / 1.3, EDGES[1] * 0.97 / 1.3, 3e4], weights.dtype)
        young = weights.sum(1) @ jnp.where(ssp.lg_age < -2.0, 1.0, 0.01)
        return wave, young[:, None] * (self.strength * jnp.asarray([[1.0, 0.5, 2.0, 3.0]], weights.dtype))


class Step(dspsx.IGM):
    """Absorption below 2600 A at rest, inside the blue band, that grows smoothly with redshift."""

    depth: Scalar = param(1.0, bounds=(0.0, 3.0), doc="optical depth per unit redshift")

    def transmission(self, wave, redshift):
        return jnp.where(wave < 2600.0, jnp.exp(-self.depth * redshift), 1.0)


@functools.cache
def full():
    return testing.fake_galaxy(dust=dspsx.Salim18())


@pytest.fixture(scope="module")
def fixed():
    return full().compress(n_galaxies=60, progress=False)


@pytest.fixture(scope="module")
def ranged():
    return full().compress(redshift=(LO, HI), n_galaxies=60, progress=False)


@pytest.fixture(params=["fixed", "ranged"])
def small(request):
    return request.getfixturevalue(request.param)


def drawn(galaxy, redshifts, seed):
    batch = examples.draw(galaxy, np.random.default_rng(seed), len(redshifts))
    return eqx.tree_at(lambda g: g.redshift, batch, jnp.asarray(redshifts, galaxy.redshift.dtype))


@eqx.filter_jit
def magnitudes(batch):
    return eqx.filter_vmap(lambda g: g.magnitudes(), in_axes=(dspsx.batch_axes(batch),))(batch)


def look_at(galaxy):
    """Magnitudes, and their derivatives with respect to every free parameter and the redshift: {name: (band,)}."""
    theta, rest = dspsx.partition(galaxy, lambda g: (g.sfh, g.metallicity, g.dust, g.redshift), physical=True)

    def function(theta):
        value = dspsx.combine(theta, rest, physical=True).magnitudes()
        return value, value

    jacobian, value = jax.jacrev(function, has_aux=True)(theta)
    return value, {name: x for name, (_, x) in dspsx.named_parameters(jacobian).items()}


look_at_one = eqx.filter_jit(look_at)


@eqx.filter_jit
def look(batch):
    return eqx.filter_vmap(look_at, in_axes=(dspsx.batch_axes(batch),))(batch)


def on(galaxies, small):
    return eqx.tree_at(lambda g: g.ssp, galaxies, small.ssp)


def worst(found, exact):
    seen = np.asarray(exact) < 80
    assert seen.mean() > 0.5
    return np.abs(np.asarray(found, float) - np.asarray(exact, float))[seen].max()


def assert_same_gradients(found, exact, seen, tolerance=0.01, galaxy=None):
    """Within 1 % of the exact one, or of 0.1 mag across the range of the parameter."""
    named = dspsx.named_parameters(full() if galaxy is None else galaxy)
    ranges = {name: info.bounds for name, (info, _) in named.items()} | {"redshift": (LO, HI)}
    assert set(found) == {name for name, (info, _) in named.items() if info.free} | {"redshift"}
    for name, there in exact.items():
        here, there = np.asarray(found[name], float)[seen], np.asarray(there, float)[seen]
        least = 0.1 / (ranges[name][1] - ranges[name][0])
        error = np.abs(here - there) / np.maximum(np.abs(there), least)
        assert np.isfinite(there).all() and there.any(), name
        assert error.max() < tolerance, (name, error.max())


def test_certificate_and_gradients_hold_for_other_galaxies(small):
    certificate = small.ssp.certificate
    assert 0 <= certificate.median_mmag <= certificate.p99_mmag <= certificate.worst_mmag <= certificate.tol_mmag == 1.0
    assert certificate.worst_mmag > 0
    assert certificate.n_galaxies == 60 and certificate.dtype == "float32" and len(certificate.nodes) == 3
    rng = np.random.default_rng(77)
    for seed in (101, 102, 103, 104):
        galaxies = drawn(full(), rng.uniform(*certificate.redshift, N), seed)
        (exact, gradient), (found, small_gradient) = look(galaxies), look(on(galaxies, small))
        assert worst(found, exact) <= 1e-3
        assert_same_gradients(small_gradient, gradient, np.asarray(exact) < 80)


def test_none_of_many_galaxies_is_over_the_tolerance(small):
    galaxies = drawn(full(), np.random.default_rng(79).uniform(*small.ssp.certificate.redshift, 2000), 106)
    assert worst(magnitudes(on(galaxies, small)), magnitudes(galaxies)) <= 1e-3


def test_bands_with_steps_of_their_own(monkeypatch):
    """Two groups of bands in one table, out of order, of light behind two screens: magnitudes and gradients are those of the full
    galaxy."""
    galaxy = testing.fake_galaxy(dust=BirthCloud())
    monkeypatch.setattr(tables, "_grouped", lambda n, *_: [(int(n.max()), [0, 2]), (2 * int(n.max()), [1])])
    grouped = galaxy.compress(redshift=(LO, HI), n_galaxies=60, progress=False)
    assert grouped.ssp.groups == (2, 1) and grouped.ssp.order == (0, 2, 1)
    few, many = (len(table) // len(grouped.ssp.wave) - 1 for table in grouped.ssp.table)
    assert many == 2 * few
    galaxies = drawn(galaxy, np.random.default_rng(78).uniform(LO, HI, N), 105)
    (exact, gradient), (found, small_gradient) = look(galaxies), look(on(galaxies, grouped))
    assert worst(found, exact) <= 1e-3
    assert_same_gradients(small_gradient, gradient, np.asarray(exact) < 80, galaxy=galaxy)


@pytest.mark.parametrize(("lo", "hi", "segments"), [(0.9, 1.0, 3), (0.9, 0.94, 1)])
def test_steps_in_redshift_are_fine_enough_for_derivatives(lo, hi, segments, monkeypatch):
    """Of bands with steep edges, cubics between steps have derivatives within 1 %, or of 1 mag per unit of redshift; with the steps
    that their light needs they have not."""
    galaxy = dspsx.GalaxySEDModel(
        ssp=dspsx.SSPGrid.default(), dust=dspsx.Salim18(), filters=FilterSet.load("lsst_[iy]")
    )
    first, last = np.log1p((lo, hi))
    width = (last - first) / segments
    seen = examples.Examples(galaxy, lo, hi, 50.0, np.random.default_rng(3), Progress("test", False))
    steps = functools.partial(tables._steps, galaxy, first, last, width, seen, np.full(2, 1.0 / MMAG))
    fine = steps()
    monkeypatch.setattr(tables, "OF_SLOPE", np.inf)
    coarse = steps()
    assert (fine > coarse).all()

    light, project = seen.light[:200] * seen.transmission[seen.n_fit :][:200], projection(galaxy)

    def off(needed):
        rng, worst = np.random.default_rng(4), np.zeros(2)
        for u in rng.uniform(first, last, 12):
            value, slope = (light @ p.T for p in project(u))
            exact = MMAG / 1e3 * slope / value / np.exp(u)
            for band, n in enumerate(needed):
                step = width / n
                start = first + step * np.floor((u - first) / step)
                ends = [[light @ p[band] for p in project(x)] for x in (start, start + step)]
                cubic = scipy.interpolate.CubicHermiteSpline([start, start + step], *zip(*ends, strict=True))
                found = MMAG / 1e3 * cubic(u, 1) / cubic(u) / np.exp(u)
                error = np.abs(found - exact[:, band]) / np.maximum(np.abs(exact[:, band]), 1.0)
                worst[band] = max(worst[band], error.max())
        return worst

    assert (off(fine) < 0.01).all() and (off(coarse) > 0.02).any()


def test_derivatives_by_redshift_are_certified(ranged, fixed, monkeypatch):
    """Against differences of exact magnitudes; and if they are off, the certificate tells by how much and in how many."""
    assert fixed.ssp.certificate.slopes_off is None and "derivatives" not in fixed.ssp.certificate.brief()
    assert ranged.ssp.certificate.slopes_off == 0.0 and 0.0 < ranged.ssp.certificate.worst_slope < 0.01
    assert "derivatives by redshift within 1 % in 100.00%" in str(ranged.ssp.certificate)

    validation = errors.Validation(full(), LO, HI, 50.0, 30, 8)
    found = validation.slope_errors(ranged.ssp)
    z, h = validation.galaxies.redshift, 2e-3
    low, high = (magnitudes(dspsx.replace(validation.galaxies, lambda g: g.redshift, z + dz)) for dz in (-h, h))
    np.testing.assert_allclose(validation.slopes, (high - low) / (2 * h), rtol=0.02, atol=0.02)
    assert found.shape == (90,) and found.max() < 0.01

    exactly = errors.with_slopes
    monkeypatch.setattr(errors, "with_slopes", lambda g: (exactly(g)[0], exactly(g)[1] * jnp.asarray([1.0, 1.0, 1.04])))
    wrong = errors.Validation(full(), LO, HI, 50.0, 30, 8)
    np.testing.assert_allclose((wrong.slope_errors(ranged.ssp) > 0.01).mean(), 1 / 3, atol=0.1)
    # those whose derivative is smaller count relative to 1 mag per unit of redshift
    assert wrong.slope_errors(ranged.ssp).max() == pytest.approx(0.04 / 1.04, abs=0.005)


class Backwards(dspsx.IGM):
    """A user's absorption that has no derivatives in forward mode."""

    depth: Scalar = param(1.0, bounds=(0.0, 3.0), doc="optical depth per unit redshift")

    def transmission(self, wave, redshift):
        return jnp.where(wave < 2600.0, jnp.exp(-self.depth * _itself(redshift)), 1.0)


@jax.custom_vjp
def _itself(x):
    return x


_itself.defvjp(lambda x: (x, None), lambda _, g: (g,))


class Forwards(Backwards):
    """Another one, that has no derivatives in reverse mode."""

    def transmission(self, wave, redshift):
        by_steps = jax.lax.while_loop(
            lambda x: x[0] < 4, lambda x: (x[0] + 1, x[1] + 0.25 * redshift), (0, 0.0 * redshift)
        )
        return jnp.where(wave < 2600.0, jnp.exp(-self.depth * by_steps[1]), 1.0)


@pytest.mark.parametrize("igm", [Backwards, Forwards])
def test_derivatives_that_one_mode_alone_has(igm):
    small = testing.fake_galaxy(igm=igm()).compress(redshift=(0.3, 0.31), n_galaxies=20, progress=False)
    assert small.ssp.certificate.slopes_off is None and small.ssp.certificate.worst_mmag <= 1.0


def test_derivatives_of_nothing_are_not_certified(ranged):
    validation = errors.Validation(full(), LO, HI, 50.0, 5, 8)
    validation.dark[:] = True
    assert validation.slope_errors(ranged.ssp) is None


def test_a_low_narrow_range():
    """Its one segment is as wide as the range, to rounding."""
    small = full().compress(redshift=(0.002, 0.012), n_galaxies=20, progress=False)
    assert len(small.ssp.wave) == 1
    galaxies = drawn(full(), np.random.default_rng(81).uniform(0.002, 0.012, N), 108)
    (exact, gradient), (found, small_gradient) = look(galaxies), look(on(galaxies, small))
    assert worst(found, exact) <= 1e-3
    np.testing.assert_allclose(small_gradient["redshift"], gradient["redshift"], rtol=0.01)


def test_a_band_that_no_star_shines_in():
    """Magnitudes of it have the finite limit of no light, in a table too; the other bands have their light."""
    dark = eqx.tree_at(lambda g: g.ssp.flux, full(), jnp.where(full().ssp.wave < 4000.0, 0.0, full().ssp.flux))
    table = dark.compress(redshift=(LO, HI), n_galaxies=20, progress=False)
    found, exact = (dspsx.replace(g, lambda g: g.redshift, 0.3).magnitudes() for g in (table, dark))
    assert exact[0] > 80 and (exact[1:] < 40).all()
    np.testing.assert_allclose(found, exact, atol=1e-3)


def test_a_batch_in_any_order_is_its_galaxies_one_by_one(ranged):
    ssp = ranged.ssp
    (table,) = ssp.table
    steps = len(table) - len(ssp.wave)
    width = ssp.width * len(ssp.wave) / steps  # of a step
    middle = np.log1p(LO) + np.log(1.5 / 1.2) * 2 / len(ssp.wave)  # where two segments meet
    rng = np.random.default_rng(5)
    cases = {
        "one step": ((1, 1), np.expm1(middle + width * rng.uniform(0.1, 0.9, N))),
        "window": ((2, 6), np.sort(np.expm1(middle + width * rng.uniform(-2.9, 2.9, N)))),
        "window, unsorted": ((2, 6), np.expm1(middle + width * rng.uniform(-2.9, 2.9, N))),
        "all": ((len(ssp.wave), steps), np.concatenate([[LO, HI], rng.uniform(LO, HI, N - 2)])),
    }
    for name, (counts, z) in cases.items():
        _, segment, step, _ = jax.vmap(ssp._place)(jnp.asarray(z, jnp.float32))
        assert (int(np.ptp(segment)) + 1, int(np.ptp(step)) + 1) == counts
        batch = drawn(ranged, z, 7)
        together, gradient = look(batch)
        assert np.isfinite(together).all()
        for i in range(0, N, 5):
            value, slope = look_at_one(dspsx.take(batch, i))
            np.testing.assert_allclose(together[i], value, atol=1e-5, rtol=1e-6)
            for key, x in slope.items():
                # either is off by up to 2e-4 of what float64 has, of a history near the end of its range
                np.testing.assert_allclose(gradient[key][i], x, rtol=3e-4, atol=1e-5, err_msg=f"{name}, {key}")


@pytest.mark.parametrize("n", [0, 1, 257, 263])
def test_batches_of_any_size(ranged, n):
    ssp = ranged.ssp
    z = jnp.asarray(np.random.default_rng(n).uniform(LO, HI, n), jnp.float32)
    mass = jnp.ones((1, ssp.lg_age.size), jnp.float32)
    metallicity = jnp.full(ssp.lgmet.size, 1.0 / ssp.lgmet.size, jnp.float32)
    alone = jax.jit(lambda z: ssp.integrate_separable(metallicity, mass, z)[0])
    light = jax.jit(jax.vmap(alone))(z)
    slope = jax.jit(jax.vmap(jax.grad(lambda z: alone(z).sum())))(z)
    assert slope.shape == (n,) and np.isfinite(slope).all()
    assert light.shape == (n, sum(ssp.sizes)) and np.isfinite(light).all()
    for i in range(0, n, 40):
        # a node counts with the others of its band
        one = alone(z[i])
        np.testing.assert_allclose(light[i], one, rtol=1e-5, atol=1e-6 * float(one.max()))


def test_second_derivatives(fixed, ranged, x64):
    def light(x, galaxy):
        where = lambda g: (g.dust.av, g.metallicity.lgmet, g.redshift, g.sfh.tau, g.sfh.age)  # noqa: E731
        changed = eqx.tree_at(where, galaxy, tuple(x))
        return changed.magnitudes().sum()

    double = lambda x: jnp.asarray(x, jnp.float64) if eqx.is_inexact_array(x) else x  # noqa: E731
    fixed, whole = jax.tree.map(double, fixed), jax.tree.map(double, full())
    x = jnp.asarray([0.7, -2.1, float(fixed.redshift), 0.8, 4.0])
    hessian = eqx.filter_jit(jax.hessian(light))(x, fixed)
    for derivative in (jax.jacfwd, jax.jacrev):
        np.testing.assert_allclose(
            eqx.filter_jit(derivative(derivative(light)))(x, fixed), hessian, rtol=1e-9, atol=1e-9
        )
    np.testing.assert_allclose(hessian, hessian.T, rtol=1e-6, atol=1e-9)
    step = jnp.asarray([1e-4, 0.0, 0.0, 0.0, 0.0])
    gradient = eqx.filter_jit(jax.grad(light))
    slopes = [gradient(x + sign * step, fixed) for sign in (1, -1)]
    np.testing.assert_allclose(hessian[0, :2], ((slopes[0] - slopes[1]) / 2e-4)[:2], rtol=1e-5)
    exact = eqx.filter_jit(jax.hessian(light))(x, whole)
    np.testing.assert_allclose(hessian[2], exact[2], rtol=0.01, atol=0.01)
    with pytest.raises(TypeError, match="two derivatives"):
        jax.jacfwd(jax.hessian(light))(x, fixed)
    with pytest.raises(TypeError, match="first derivatives only"):
        jax.hessian(light)(jnp.asarray(x, jnp.float32), ranged)


def test_lines_of_the_full_galaxy_follow_the_formula():
    bright = testing.fake_galaxy(dust=Kinked(), lines=Lines(strength=200.0))
    dark = dspsx.replace(bright, lambda g: g.lines.strength, 0.0)
    wave, luminosity = (np.asarray(x, float) for x in bright.lines.luminosities(bright.ssp, bright.weights()[None]))
    luminosity = luminosity.sum(0) * 10 ** (-0.4 * np.asarray(bright.dust.attenuation(jnp.asarray(wave, jnp.float32))))
    stars = eqx.filter_jit(lambda g: g.filters.band_average(g.ssp.wave, g.rest_sed(), g.redshift))(bright)
    for (w, t), flux, without, star in zip(bright.filters.curves(), bright.fluxes(), dark.fluxes(), stars, strict=True):
        fine = np.linspace(w[0], w[-1], 50001)
        through = np.interp(1.3 * wave, w, t, left=0.0, right=0.0)
        line = (luminosity * wave / units.C_ANGSTROM * through).sum()
        line /= np.trapezoid(np.interp(fine, w, t) / fine, fine)
        np.testing.assert_allclose(flux, without * (1 + line / star), rtol=2e-5)
    assert float(bright.fluxes()[1] / dark.fluxes()[1]) > 1.1  # the lines do count


class Half(Lines):
    """A continuum whose spectra are told, and not how much there is of each."""

    def continuum_spectra(self, wave):
        return jnp.ones((wave.size, 1), wave.dtype)


def test_spectra_of_the_gas_need_their_parts():
    with pytest.raises(TypeError, match=r"Half must write both .*continuum_parts.* 1 spectra and 0 parts"):
        testing.fake_galaxy(lines=Half()).compress(n_galaxies=20, progress=False)


class Off(Lines):
    """Gas whose continuum is switched off, although it could say of what parts it would be."""

    def continuum_parts(self, ssp, weights):
        return weights.sum((1, 2))[:, None]


def test_parts_of_no_spectra_do_not_matter():
    small = testing.fake_galaxy(lines=Off()).compress(n_galaxies=20, progress=False)
    assert small.ssp.certificate.worst_mmag <= 1.0
    assert not small.ssp.has_gas(small.lines)


def test_gas_takes_a_band_that_crosses_the_lyman_limit():
    """Where it is blueward of it nothing may be left; elsewhere in the range it is certified all the same."""
    galaxy = dspsx.GalaxySEDModel(
        filters=FilterSet.load("galex_fuv"), sfh=dspsx.DelayedTauSFH(), dust=dspsx.Salim18(), lines=dspsx.NebularLines()
    )
    certificate = galaxy.compress(redshift=(0.8, 1.1), n_galaxies=100, progress=False).ssp.certificate
    assert certificate.worst_mmag < 1.0
    assert "blueward of the Lyman limit" in certificate.excepted


def test_two_screens_of_a_users_law_with_lines_and_igm_in_a_range():
    galaxy = testing.fake_galaxy(dust=BirthCloud(), lines=Lines(), igm=Step())
    small = galaxy.compress(redshift=(0.27, 0.33), n_galaxies=40, progress=False)
    assert small.ssp.certificate.worst_mmag <= 1.0
    galaxies = drawn(galaxy, np.random.default_rng(3).uniform(0.27, 0.33, 20), 55)
    exact = magnitudes(galaxies)
    assert worst(magnitudes(on(galaxies, small)), exact) <= 1e-3
    off = [eqx.tree_at(where, galaxies, jnp.zeros(20)) for where in (lambda g: g.igm.depth, lambda g: g.lines.strength)]
    assert (np.abs(magnitudes(off[0]) - exact)[:, 0]).max() > 0.05
    assert (np.abs(magnitudes(off[1]) - exact)[:, 1]).max() > 0.05


def test_float64_meets_a_tenth_of_the_tolerance_with_a_users_law(x64):
    galaxy = testing.fake_galaxy(dust=Kinked())
    red = FilterSet.from_arrays(["red"], *([x] for x in galaxy.filters.curves()[2]))
    small = galaxy.compress(filters=red, tol=1e-4, n_galaxies=40, progress=False)
    certificate = small.ssp.certificate
    assert certificate.worst_mmag <= 0.1 and certificate.tol_mmag == pytest.approx(0.1)
    assert certificate.dtype == "float64" and certificate.bands == small.filters.names == ("red",)
    assert small.magnitudes().dtype == jnp.float64
    np.testing.assert_allclose(small.magnitudes()[0], galaxy.magnitudes()[2], atol=1e-4)


def test_default_grid_and_lsst_bands():
    galaxy = dspsx.GalaxySEDModel(dust=dspsx.Calzetti00(), redshift=0.8)
    small = galaxy.compress(n_galaxies=40, progress=False)
    assert small.ssp.certificate.worst_mmag <= 1.0
    assert sum(small.ssp.certificate.nodes) < 120
    np.testing.assert_allclose(small.magnitudes(), galaxy.magnitudes(), atol=1e-3)


def test_outside_of_the_range_nothing_is_extrapolated(small):
    lo, hi = small.ssp.certificate.redshift
    at = jax.jit(lambda z: dspsx.replace(small, lambda g: g.redshift, z).magnitudes())
    for z in (0.0, lo - 1e-3, hi + 1e-3, 3.0):
        assert np.isnan(at(z)).all()
        assert np.isnan(eqx.tree_at(lambda g: g.redshift, small, jnp.asarray(z, jnp.float32)).magnitudes()).all()
        with pytest.raises(ValueError, match=r"is outside: .*0\.") as info:
            dspsx.replace(small, lambda g: g.redshift, z)
        assert all(f"{x:g}" in str(info.value) for x in (z, lo, hi))
    assert np.isfinite(at(lo)).all() and np.isfinite(at(hi)).all()
    mixed = magnitudes(drawn(small, [lo, 3.0, hi, 0.0], 3))
    np.testing.assert_array_equal(np.isfinite(mixed).all(1), [True, False, True, False])
    assert np.isnan(mixed[1]).all() and np.isnan(mixed[3]).all()


def test_a_redshift_that_is_no_number_disturbs_no_other_galaxy(ranged):
    z = np.random.default_rng(9).uniform(LO, HI, N)
    batch = drawn(ranged, z, 9)
    alone = magnitudes(batch)
    bad = [0, 5, N - 1]
    mixed = magnitudes(eqx.tree_at(lambda g: g.redshift, batch, batch.redshift.at[jnp.array(bad)].set(jnp.nan)))
    assert np.isnan(mixed[np.array(bad)]).all()
    np.testing.assert_allclose(np.delete(mixed, bad, axis=0), np.delete(alone, bad, axis=0), rtol=1e-6)


def test_another_igm_is_refused(small):
    with pytest.raises(ValueError, match="compressed without Madau95"):
        dataclasses.replace(small, igm=dspsx.Madau95())
    absorbed = testing.fake_galaxy(igm=dspsx.Inoue14()).compress(n_galaxies=20, progress=False)
    with pytest.raises(ValueError, match="compressed with igm=Inoue14"):
        dataclasses.replace(absorbed, igm=None)
    with pytest.raises(ValueError, match="compressed without DampingWing/Inoue14"):
        dataclasses.replace(absorbed, igm=dspsx.DampingWing(dspsx.Inoue14()))


def test_another_igm_within_a_damping_wing_is_refused():
    neutral = testing.fake_galaxy(igm=dspsx.DampingWing(dspsx.Inoue14())).compress(n_galaxies=20, progress=False)
    dataclasses.replace(neutral, igm=dspsx.DampingWing(dspsx.Inoue14(), x_hi=0.1))
    with pytest.raises(ValueError, match="compressed without DampingWing/Step"):
        dataclasses.replace(neutral, igm=dspsx.DampingWing(Step()))


def test_dust_of_a_users_own_is_refused_unless_it_was_there(small):
    dataclasses.replace(small, dust=dspsx.CharlotFall00(), foreground=dspsx.Fitzpatrick99(av=0.1))
    for dust in (Kinked(), dspsx.PartialCover(Kinked()), BirthCloud()):
        with pytest.raises(ValueError, match=r"compressed without (Kinked|BirthCloud), for which its nodes"):
            dataclasses.replace(small, dust=dust)
    with pytest.raises(ValueError, match="compressed without Kinked"):
        dataclasses.replace(small, foreground=Kinked())
    own = testing.fake_galaxy(dust=BirthCloud()).compress(n_galaxies=20, progress=False)
    dataclasses.replace(own, dust=Kinked())


def test_what_a_compressed_galaxy_does_not_know_is_refused(small):
    with pytest.raises(ValueError, match="rest-frame magnitudes need 0"):
        small.rest_magnitudes()
    for ask in (small.rest_sed, small.observed_sed, lambda: small.observed_wave):
        with pytest.raises(TypeError, match="no spectrum"):
            ask()
    waves, curves = zip(*small.filters.curves(), strict=True)
    with pytest.raises(ValueError, match="for the bands fake_blue"):
        dspsx.replace(small, lambda g: g.filters, FilterSet.from_arrays(["a", "b", "c"], waves, curves))
    with pytest.raises(ValueError, match="curves"):
        other = FilterSet.from_arrays(small.filters.names, waves, [c**2 for c in curves])
        dspsx.replace(small, lambda g: g.filters, other)


BAD = [
    (ValueError, "seed must be", [{"seed": 1.5}, {"seed": -1}]),
    (ValueError, "tol must be", [{"tol": 0.0}, {"tol": -1e-3}, {"tol": "x"}]),
    (ValueError, "depth must be", [{"depth": 0.0}]),
    (ValueError, "between 0 and 20", [{"redshift": z} for z in (-1.0, (0.5, 0.2), float("nan"))]),
    (ValueError, "number or a pair", [{"redshift": (0.1, 0.2, 0.3)}]),
    (TypeError, "text", [{"redshift": "0.5"}]),
    (TypeError, "FilterSet", [{"filters": "lsst"}]),
]


@pytest.mark.parametrize(("error", "words", "arguments"), [(e, w, a) for e, w, many in BAD for a in many])
def test_bad_arguments_are_named(error, words, arguments):
    plainly = inspect.unwrap(build.compress)  # without the checks of types that only tests switch on
    with pytest.raises(error, match=words):
        plainly(full(), **arguments)


def test_galaxies_that_cannot_be_compressed(fixed, monkeypatch):
    with pytest.raises(ValueError, match="batch"):
        dspsx.stack([full(), full()]).compress()
    with pytest.raises(TypeError, match="full SSPGrid"):
        fixed.compress()
    with pytest.raises(TypeError, match="traced"):
        eqx.filter_jit(lambda g: g.compress().magnitudes())(full())
    # each of four tries would compile the comparison of magnitudes again, which float32 limits to about 0.01 mmag
    monkeypatch.setattr(build, "certify", lambda *_: (fixed, fixed.ssp.certificate))
    with pytest.raises(ValueError, match="cannot be met"):
        full().compress(tol=1e-9, n_galaxies=20, progress=False)


def test_files_pickles_batches_and_print(small, tmp_path):
    dspsx.save(tmp_path / "small.h5", small)
    other = pickle.loads(pickle.dumps(small))
    for again in (dspsx.load(tmp_path / "small.h5"), other):
        assert again.ssp.certificate == small.ssp.certificate
        assert type(again.ssp) is type(small.ssp) and eqx.tree_equal(again, small)
        np.testing.assert_array_equal(again.magnitudes(), small.magnitudes())
    batch = dspsx.stack([small, dspsx.replace(other, lambda g: g.dust.av, 2.0)])
    assert batch.ssp.wave is small.ssp.wave and batch.dust.av.shape == (2,)
    one = dspsx.take(batch, 1)
    assert float(one.magnitudes()[1]) > float(small.magnitudes()[1])
    told = f"worst {small.ssp.certificate.worst_mmag:.3g}"
    for text in map(str, (repr(small), small, small.ssp.certificate, repr(small.ssp.certificate), small.ssp)):
        assert told in text and "mmag" in text
    assert str(small.ssp.certificate).count("\n") == 5


def test_low_rank_grid(tmp_path):
    galaxy, grid = full(), full().ssp
    exact = grid.compress(rank=48)
    rough = grid.compress(rank=4)
    assert isinstance(rough, dspsx.LowRankSSP)
    assert exact.worst < 1e-4 < rough.worst and rough.median < rough.worst
    assert f"{rough.worst:.2g} at worst" in repr(rough)
    on_exact, on_rough = (dspsx.replace(galaxy, lambda g: g.ssp, low) for low in (exact, rough))
    np.testing.assert_allclose(on_exact.magnitudes(), galaxy.magnitudes(), atol=1e-5)
    assert 0 < worst(on_rough.magnitudes(), galaxy.magnitudes()) < 0.2
    dspsx.save(tmp_path / "low.h5", on_rough)
    again = dspsx.load(tmp_path / "low.h5")
    assert eqx.tree_equal(again, on_rough)
    for rank in (0, 10**6, -1, 2.5, True):
        with pytest.raises(ValueError, match="whole number from 1 to 48"):
            inspect.unwrap(dspsx.ssp.low_rank.low_rank)(grid, rank)


def test_dust_in_the_foreground():
    """At observed wavelengths, on light from outside only; compressed within the tolerance."""
    law = dspsx.PowerLawDust(av=0.5, slope=-1.2)
    galaxy = testing.fake_galaxy(foreground=law, lines=Lines(strength=100.0))
    clear = testing.fake_galaxy(lines=Lines(strength=100.0))
    np.testing.assert_array_equal(galaxy.rest_magnitudes(), clear.rest_magnitudes())
    ratio = np.asarray(galaxy.observed_sed() / clear.observed_sed(), float)
    wanted = 10 ** (-0.4 * 0.5 * (np.asarray(galaxy.observed_wave, float) / 5500.0) ** -1.2)
    np.testing.assert_allclose(ratio, wanted, rtol=1e-5)
    dimming = np.asarray(galaxy.magnitudes() - clear.magnitudes())
    assert (np.diff(dimming) < 0).all() and 0.1 < dimming[2] < dimming[0] < 1.0
    small = galaxy.compress(redshift=(0.25, 0.35), n_galaxies=40, progress=False)
    assert small.ssp.certificate.worst_mmag <= 1.0
    np.testing.assert_allclose(small.magnitudes(), galaxy.magnitudes(), atol=1e-3)
    with pytest.raises(TypeError, match="foreground"):
        testing.fake_galaxy(foreground=0.3)


def test_predict_refuses_other_curves_of_the_same_names(fixed):
    thinner = eqx.tree_at(
        lambda g: g.filters.transmission, drawn(fixed, [float(fixed.redshift)] * 3, 1), fixed.filters.transmission**2
    )
    with pytest.raises(ValueError, match="not those that it was compressed for"):
        dspsx.predict(thinner)
