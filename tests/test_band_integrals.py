"""The two ways to integrate bands are one: by the points of the curves, and by the matrix, which parity tests check."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import dspsx
from dspsx import FilterSet, _band_integrals, testing
from dspsx._numerics import crowding

TOP_HATS = {"narrow": (5000, 5100), "wide": (3000, 9000), "wider": (1500, 15000), "widest": (1000, 1e6)}


def bands():
    hats = FilterSet.from_arrays(list(TOP_HATS), list(TOP_HATS.values()), [[1, 1]] * len(TOP_HATS))
    return FilterSet.load(["lsst_*", "galex_*", "vista_*", "wfc3_f160w", "wise_w1"]) + hats


def spectrum(kind, n):
    rng = np.random.default_rng(n)
    wave = np.geomspace(900, 5e4, n) if kind == "even" else np.sort(10 ** rng.uniform(2.5, 6, n))
    return wave, (wave / 5000) ** rng.uniform(-2, 2) * 10 ** rng.normal(0, 0.2, n)


@pytest.mark.parametrize(("kind", "n"), [("even", 5464), ("odd", 3000)])
def test_same_as_the_matrix(kind, n, precision):
    wave, light = spectrum(kind, n)
    filters, crowds = bands(), crowding(wave)
    x, y = jnp.asarray(wave, precision), jnp.asarray(light, precision)

    @eqx.filter_jit
    def both(filters, z, y):
        return filters.band_average(x, y, z, crowds), filters.projection(x, z, crowds) @ y

    tolerance = {"float32": 2e-5, "float64": 1e-12}[precision]
    redshifts = jnp.asarray([0.0, 0.37, 2.1], precision)
    for z in redshifts:
        found, expected = both(filters, z, y)
        assert np.isfinite(found).all() and (np.asarray(expected) > 0).sum() > 12
        np.testing.assert_allclose(found, expected, rtol=tolerance)
    one = np.stack([both(filters, z, y)[0] for z in redshifts])
    each = eqx.filter_vmap(both, in_axes=(None, 0, None))
    np.testing.assert_allclose(each(filters, redshifts, y)[0], one, rtol=tolerance)
    same = eqx.filter_vmap(both, in_axes=(None, 0, 0))(filters, redshifts[jnp.asarray([1, 1])], jnp.stack([y, 2 * y]))
    np.testing.assert_allclose(same[0], [one[1], 2 * one[1]], rtol=tolerance)


def test_filled_curves():
    """No step is wide; nothing is filled twice; a FilterSet of wide steps is refused."""
    filters = bands()
    again = FilterSet.from_arrays(filters.names, *zip(*filters.curves(), strict=True))
    assert again.digest() == filters.digest()
    assert max(np.diff(np.log(w)).max() for w, _ in filters.curves()) < 1.001 / 64
    with pytest.raises(ValueError, match="from_arrays"):
        FilterSet(("t",), (2,), (float(np.log(3)),), np.array([3000.0, 9000.0]), np.ones(2))
    wave, light = spectrum("even", 3000)
    stretched = eqx.tree_at(lambda f: f.wave, FilterSet.load("lsst_u"), replace_fn=lambda w: 3000.0 + 40.0 * (w - w[0]))
    assert np.isnan(stretched.band_average(jnp.asarray(wave), jnp.asarray(light), 0.0, crowding(wave))).all()


def test_steep_curves():
    """Edges that float32 cannot resolve, and narrow triangles."""
    hat = FilterSet.from_arrays(["x"], [[4999.9999, 5000, 6000, 6000.0001]], [[0, 1, 1, 0]])
    expected = 5500.0 / dspsx.units.C_ANGSTROM / np.log(1.2)
    np.testing.assert_allclose(hat.line_average(jnp.asarray([5500.0]), jnp.asarray([1.0])), expected, rtol=1e-5)
    for centre, half in ((10000.0, 1.0), (5000.0, 1.0), (5000.0, 20.0)):
        triangle = FilterSet.from_arrays(["t"], [[centre - half, centre, centre + half]], [[0, 1, 0]])
        flat = jnp.ones(3000)
        wave = jnp.asarray(np.linspace(3000.0, 20000.0, 3000))
        np.testing.assert_allclose(triangle.band_average(wave, flat), 1.0, atol=5e-5)


def test_mixed_second_derivatives(x64):
    """In whatever order, and in a batch."""
    galaxy = testing.fake_galaxy(dust=dspsx.PowerLawDust())
    m = lambda a, z: eqx.tree_at(lambda g: (g.dust.av, g.redshift), galaxy, (a, z)).magnitudes().sum()  # noqa: E731
    av, z, h = jnp.asarray(0.5), jnp.asarray(0.33), 1e-4
    expected = (m(av + h, z + h) - m(av + h, z - h) - m(av - h, z + h) + m(av - h, z - h)) / (4 * h * h)
    for outer, inner in ((jax.grad, jax.grad), (jax.jacfwd, jax.jacfwd), (jax.grad, jax.jacfwd)):
        mixed = jax.jit(jax.vmap(outer(lambda z: inner(m)(av, z))))  # noqa: B023
        np.testing.assert_allclose(mixed(jnp.stack([z, z])), expected, rtol=1e-4)


@pytest.fixture(params=["by the curves", "by the matrix"])
def way(request, monkeypatch):
    """Derivatives taken in either way, whichever is quicker for the spectrum."""
    monkeypatch.setattr(_band_integrals, "_IN_VAIN", 0 if request.param == "by the curves" else np.inf)
    _band_integrals._average.cache_clear()
    yield
    _band_integrals._average.cache_clear()


@pytest.mark.parametrize("z", ["one", "equal", "each"])
def test_derivatives_are_those_of_the_matrix(z, way, x64):
    wave, light = spectrum("odd", 300)
    filters, x = FilterSet.load(["lsst_g", "lsst_r", "galex_nuv"]), jnp.asarray(wave)
    lights = jnp.stack([jnp.asarray(light), jnp.asarray(light[::-1].copy()), 2.0 * jnp.asarray(light)])
    redshifts = {"one": jnp.asarray(0.3), "equal": jnp.full(3, 0.3), "each": jnp.asarray([0.1, 0.3, 2.0])}[z]
    average = lambda y, z, f: filters_of(filters, f).band_average(x, y, z)  # noqa: E731
    by_matrix = lambda y, z, f: filters_of(filters, f).projection(x, z) @ y  # noqa: E731
    square = lambda f: lambda *args: (f(*args) ** 2).sum()  # noqa: E731
    axes = (0, None if z == "one" else 0, None)
    args = lights, redshifts, jnp.asarray(filters.transmission)
    for transformed in (
        lambda f: jax.vmap(jax.grad(square(f), (0, 1, 2)), axes),
        lambda f: jax.vmap(jax.grad(square(f)), axes),
        lambda f: jax.grad(lambda *args: jax.vmap(square(f), axes)(*args).sum(), (0, 1)),
        lambda f: jax.vmap(jax.jacfwd(f, 1), axes),
        lambda f: jax.vmap(jax.grad(lambda y, z, t: jax.grad(square(f))(y, z, t) @ y, 1), axes),
        lambda f: lambda y, z, t: jax.grad(square(f), (0, 1))(y[0], z if z.ndim == 0 else z[0], t),
    ):
        found, wanted = (jax.tree.leaves(jax.jit(transformed(f))(*args)) for f in (average, by_matrix))
        for a, b in zip(found, wanted, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-11 * np.abs(b).max())


def filters_of(filters, transmission):
    return eqx.tree_at(lambda f: f.transmission, filters, transmission)


def test_light_of_another_precision_than_the_axis_and_the_curves(way):
    wave, light = spectrum("even", 300)
    filters, x = FilterSet.load(["lsst_g", "lsst_r"]), jnp.asarray(wave, "float32")
    filters = jax.tree.map(lambda a: a.astype("float32"), filters)
    with jax.enable_x64(True), jax.numpy_dtype_promotion("standard"):
        y, z = jnp.asarray(light, "float64"), jnp.asarray(0.3, "float32")
        slope = jax.grad(lambda y: (filters.band_average(x, y, z) ** 2).sum())(y)
        assert slope.dtype == np.float64
        matrix = np.asarray(filters.projection(x, z), float)
        np.testing.assert_allclose(slope, 2.0 * (matrix @ light) @ matrix, rtol=1e-4, atol=1e-6 * float(slope.max()))
