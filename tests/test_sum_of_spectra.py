"""One galaxy on a large grid reads the spectra that have weight alone: the same numbers and derivatives as of all spectra."""

import dataclasses
from typing import final

import equinox as eqx
import h5py
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jaxtyping import Array, Float

import dspsx
from dspsx import Scalar, bulk, data, param, testing
from dspsx.ssp import contraction, grid
from dspsx.ssp.contraction import sum_of_spectra

N_MET, N_AGE, N_WAVE = 5, 13, 1003  # no multiple of the rows that are read together


@pytest.fixture
def large(monkeypatch):
    """Every grid counts as a large one."""
    for module in (contraction, grid, bulk):
        monkeypatch.setattr(module, "LARGE", 0)


def stars(first, last, n_screens, dtype=float, each_age=False, seed=0):
    rng = np.random.default_rng(seed)
    metallicity = np.zeros((N_MET, N_AGE if each_age else 1))
    metallicity[first:last] = rng.uniform(0.1, 1.0, metallicity[first:last].shape)
    weights = metallicity * rng.uniform(0.1, 1.0, (n_screens, 1, N_AGE))
    spectra = rng.uniform(0.1, 1.0, (N_MET, N_AGE, N_WAVE))
    return tuple(jnp.asarray(x, dtype) for x in (weights.reshape(n_screens, -1), metallicity, spectra))


def mask(metallicity):
    """One where there may be weight."""
    return jnp.repeat((metallicity != 0).any(1), N_AGE).astype(metallicity.dtype)


def plain(weights, metallicity, spectra):
    return jnp.matmul(weights * mask(metallicity)[None], spectra.reshape(-1, N_WAVE), precision="highest")


@pytest.mark.parametrize("n_screens", [1, 2, 3])
@pytest.mark.parametrize(("first", "last"), [(0, 1), (1, 3), (4, 5), (3, 5), (0, 5), (2, 2)])
def test_light_and_derivatives(first, last, n_screens, large, precision):
    weights, metallicity, spectra = stars(first, last, n_screens, precision)
    tolerance = {"rtol": 3e-6, "atol": 1e-5} if precision == "float32" else {"rtol": 1e-12, "atol": 1e-12}
    square = lambda f: lambda w, s: (f(w, metallicity, s) ** 2).mean()  # noqa: E731
    for of in (
        lambda f: f(weights, metallicity, spectra),
        lambda f: jax.grad(square(f), (0, 1))(weights, spectra),
        lambda f: jax.jvp(lambda w: f(w, metallicity, spectra), (weights,), (weights * weights,))[1],
        lambda f: jax.grad(lambda w: ((jax.grad(square(f))(w, spectra) * mask(metallicity)[None]) ** 2).sum())(weights),
    ):
        found, wanted = (jax.tree.leaves(jax.jit(lambda f=f: of(f))()) for f in (sum_of_spectra, plain))  # noqa: B023
        for i, (x, y) in enumerate(zip(found, wanted, strict=True)):
            # where no weight is, derivatives with respect to weights do not matter: those of a compact distribution are zero
            x = x * mask(metallicity)[None] if x.shape == weights.shape else x
            np.testing.assert_allclose(x, y, **tolerance, err_msg=f"{i}")


@pytest.mark.parametrize("each_age", [False, True])
def test_galaxies_of_a_batch(each_age, large, x64):
    galaxies = [stars(*ends, 2, each_age=each_age, seed=seed) for seed, ends in enumerate([(0, 2), (1, 2), (3, 5)])]
    weights, metallicity = (jnp.stack([g[i] for g in galaxies]) for i in range(2))
    spectra = galaxies[0][2]
    for of in (lambda f: f, lambda f: jax.grad(lambda *x: (f(*x) ** 2).sum())):
        wanted = jax.vmap(of(plain), (0, 0, None))(weights, metallicity, spectra)
        each = lambda x, m: of(sum_of_spectra)(x, m, spectra)  # noqa: B023, E731
        for mapped in (jax.vmap(each), lambda *x: jax.lax.map(lambda x: each(*x), x)):  # noqa: B023
            found = mapped(weights, metallicity)
            if found.shape == weights.shape:
                found = found * jax.vmap(mask)(metallicity)[:, None, :]
            np.testing.assert_allclose(found, wanted, rtol=1e-12, atol=1e-12)
    grids = jnp.stack([spectra, 2.0 * spectra])
    found = jax.vmap(lambda s: sum_of_spectra(weights[0], metallicity[0], s))(grids)
    np.testing.assert_allclose(found[1], 2.0 * plain(weights[0], metallicity[0], spectra), rtol=1e-12)


@pytest.mark.parametrize(("first", "last"), [(0, 1), (1, 3), (2, 5), (3, 5), (1, 4), (0, 5), (2, 2)])
def test_a_large_batch_in_few_metallicities(first, last, large, precision, monkeypatch):
    """Galaxies have stars in some metallicities each, and all of them in some; in a batch of one axis, and of two."""
    monkeypatch.setattr(contraction, "_SPECTRA", N_AGE + 1)
    rng, n = np.random.default_rng(5), 60
    # at the ends, and between
    starts = np.clip(rng.integers(first - 1, last, n), first, max(last - 1, first))
    stops = np.minimum(starts + rng.integers(1, 3, n), last)
    galaxies = [stars(*ends, 1, precision, seed=i) for i, ends in enumerate(zip(starts, stops, strict=True))]
    weights, metallicity = (jnp.stack([g[i] for g in galaxies]) for i in range(2))
    spectra = galaxies[0][2]
    tolerance = {"rtol": 3e-6, "atol": 3e-5} if precision == "float32" else {"rtol": 1e-12, "atol": 1e-12}
    assert contraction._of_some("light", n, True, N_MET, N_AGE).keys() == {1, 2, 3}
    for of in (lambda f: f, lambda f: jax.grad(lambda *x: (f(*x) ** 2).mean())):
        wanted = jax.vmap(of(plain), (0, 0, None))(weights, metallicity, spectra)
        each = lambda w, m: of(sum_of_spectra)(w, m, spectra)  # noqa: B023, E731
        twice = lambda w, m: jax.vmap(jax.vmap(each))(*(x.reshape(6, 10, *x.shape[1:]) for x in (w, m)))  # noqa: B023, E731
        for mapped in (jax.vmap(each), twice):
            found = jax.jit(mapped)(weights, metallicity).reshape(wanted.shape)
            if found.shape == weights.shape:
                found = found * jax.vmap(mask)(metallicity)[:, None, :]
            np.testing.assert_allclose(found, wanted, **tolerance)


def test_galaxies_in_order_of_metallicity(large, precision, tmp_path):
    """`predict` puts them so, and gives results, derivatives and files in the order of the batch; a metallicity that is no number
    disturbs no other galaxy."""
    rng, n = np.random.default_rng(6), 150
    lgmet, av = rng.uniform(-4.0, -1.5, n), rng.uniform(0.0, 2.0, n)
    galaxy = testing.fake_galaxy()

    def make(wrap):
        metallicity = [wrap(dspsx.LognormalMDF(x, 0.1)) for x in lgmet]
        each = zip(metallicity, map(dspsx.Calzetti00, av), strict=True)
        return dspsx.stack([dataclasses.replace(galaxy, metallicity=m, dust=dust) for m, dust in each])

    lost = eqx.tree_at(lambda g: g.metallicity.lgmet, make(lambda m: m), jnp.asarray(lgmet).at[7].set(jnp.nan))
    batch, plain = make(lambda m: m), make(AllMetallicities)
    assert bulk._order(plain, n) is None
    assert (np.diff(lgmet[bulk._order(batch, n)]) >= 0).all()
    total = lambda g: g.magnitudes().sum()  # noqa: E731
    (value, slopes), wanted = (dspsx.predict_and_gradient(b, total, batch_size=64) for b in (batch, plain))
    rtol, atol = (1e-4, 1e-4) if precision == "float32" else (1e-10, 1e-10)
    np.testing.assert_allclose(value, wanted[0], rtol)
    np.testing.assert_allclose(slopes.dust.av, wanted[1].dust.av, rtol, atol)
    np.testing.assert_allclose(slopes.metallicity.lgmet, wanted[1].metallicity.other.lgmet, rtol, atol)

    with h5py.File(dspsx.predict(batch, total, batch_size=64, output=tmp_path / "out.h5")) as file:
        np.testing.assert_allclose(file["value"][()], wanted[0], rtol)
    where = lambda g: g.metallicity  # noqa: E731
    _, jacobian = dspsx.predict_jacobian(lost, where=where, batch_size=64)
    others = np.arange(n) != 7
    found = np.asarray(jacobian.metallicity.lgmet).sum(1)
    np.testing.assert_allclose(found[others], slopes.metallicity.lgmet[others], rtol, 10 * atol)
    assert np.isnan(found[7])


@final
class MeanOfTable(dspsx.MetallicityModel):
    """A user's model whose `lgmet` is an axis that all galaxies share."""

    lgmet: Float[Array, " t"] = data()
    shift: Scalar = param(0.0, bounds=(-1.0, 1.0), doc="of the mean")

    def weights(self, lgmet, lg_age, sfh, t_obs):
        return dspsx.DeltaMDF(self.lgmet.mean() + self.shift).weights(lgmet, lg_age, sfh, t_obs)


def test_an_axis_of_metallicity_is_no_batch(large):
    galaxy = testing.fake_galaxy()
    each = [MeanOfTable(jnp.linspace(-3.0, -2.0, 7), shift) for shift in np.linspace(-0.5, 0.5, 20)]
    batch = dspsx.stack([dataclasses.replace(galaxy, metallicity=m) for m in each])
    found = dspsx.predict(batch)
    np.testing.assert_allclose(found[3], dspsx.take(batch, 3).magnitudes(), rtol=1e-5)


@pytest.mark.parametrize("n_met", [1, 2, 3, 5])
def test_few_spectra(n_met, large):
    """Fewer than are read together."""
    for n_age in (2, 5):
        galaxy = testing.fake_galaxy(ssp=testing.fake_ssp(n_met=max(n_met, 2), n_age=n_age))
        galaxy = dataclasses.replace(galaxy, metallicity=dspsx.DeltaMDF(-2.0))
        slopes = eqx.filter_jit(eqx.filter_grad(lambda g: g.magnitudes().sum()))(galaxy)
        assert np.isfinite(slopes.metallicity.lgmet)


@final
class AllMetallicities(dspsx.MetallicityModel):
    """Another model's weights, that does not say that they are compact."""

    other: dspsx.MetallicityModel

    def weights(self, lgmet, lg_age, sfh, t_obs):
        return self.other.weights(lgmet, lg_age, sfh, t_obs)


@pytest.mark.parametrize(
    "metallicity",
    [
        lambda: dspsx.LognormalMDF(-2.1, 0.2),
        lambda: dspsx.LognormalMDF(-4.4, 0.0),
        lambda: dspsx.DeltaMDF(-1.7),
        lambda: dspsx.AgeCorrelatedMDF(),
        lambda: dspsx.MassMetallicity(when="formed"),
    ],
    ids=["lognormal", "lowest", "delta", "ages", "formed"],
)
def test_a_galaxy(metallicity, large, precision):
    galaxy = dataclasses.replace(testing.fake_galaxy(), metallicity=metallicity(), dust=dspsx.CharlotFall00())
    assert galaxy.metallicity.compact
    plain = dataclasses.replace(galaxy, metallicity=AllMetallicities(galaxy.metallicity))
    assert not plain.metallicity.compact
    look = eqx.filter_jit(eqx.filter_value_and_grad(lambda g: g.magnitudes().sum() + jnp.log(g.rest_sed()[5:]).mean()))
    found, wanted = (dspsx.named_parameters(look(g)[1]) for g in (galaxy, plain))
    value = look(galaxy)[0]
    rtol, atol = (3e-5, 3e-5) if precision == "float32" else (1e-10, 1e-10)
    np.testing.assert_allclose(value, look(plain)[0], rtol=rtol)
    for name, (_, slope) in found.items():
        np.testing.assert_allclose(
            slope, wanted[name.replace("metallicity.", "metallicity.other.")][1], rtol, atol, err_msg=name
        )


@pytest.mark.parametrize(
    "kind", [dspsx.ExponentialMDF(), dspsx.LognormalMDF(kernel="gaussian")], ids=["exponential", "gaussian"]
)
def test_what_is_not_compact(kind):
    assert not kind.compact


def _near(rng):
    """On a point of the grid, or near it."""
    return rng.choice(LGMET) + rng.choice([0.0, 1e-4, 2e-4, 2.6e-4, 3e-4, 1e-3, 0.03, 0.1]) * rng.choice([-1, 1])


SAMPLES = [
    *(lambda rng, s=s: dspsx.LognormalMDF(_near(rng), s) for s in (0.0, 1e-3, 0.01)),
    lambda rng: dspsx.LognormalMDF(rng.uniform(-4.5, -1.0), rng.uniform()),
    lambda rng: dspsx.LognormalMDF(rng.uniform(-4.5, -1.0), rng.uniform(), scheme="dsps"),
    lambda rng: dspsx.DeltaMDF(_near(rng)),
    lambda rng: dspsx.DeltaMDF(rng.uniform(-4.5, -1.0)),
    lambda rng: dspsx.AgeCorrelatedMDF(rng.uniform(-3, -1), rng.uniform(-4, -2), 0.0, 3.0, 0.1 * rng.uniform()),
    lambda rng: dspsx.TabulatedMetallicity(
        np.linspace(1.0, 14.0, 9), np.sort(rng.uniform(-3, -1.5, 9)), 0.1 * rng.uniform()
    ),
    *(lambda rng, w=w: dspsx.MassMetallicity(y0=rng.uniform(-1, 0.25), when=w) for w in ("observed", "formed")),
]
LGMET = np.linspace(-4.3, -1.2, 12)


@pytest.mark.parametrize("make", SAMPLES)
def test_where_a_compact_distribution_is_zero_so_are_its_derivatives(make, precision):
    rng, n_zero = np.random.default_rng(3), 0
    lgmet, lg_age = jnp.asarray(LGMET, float), jnp.linspace(-3.0, 1.1, 20)
    sfh = dspsx.DelayedTauSFH()
    for _ in range(25):
        model = make(rng)
        assert model.compact
        chosen, rest = dspsx.partition(model, physical=True)
        weights = lambda c: dspsx.combine(c, rest, physical=True).weights(lgmet, lg_age, sfh, jnp.asarray(9.0))  # noqa: B023, E731
        zero = np.asarray((weights(chosen) == 0.0).all(1))
        n_zero += int(zero.sum())
        for slope in map(np.asarray, jax.tree.leaves(jax.jacfwd(weights)(chosen))):
            # in float32, next to the end of a kernel, weights are smaller than rounding before they are zero
            most = 2e-3 if precision == "float32" else 1e-9
            assert np.abs(slope[zero]).max(initial=0.0) <= most * max(np.abs(slope).max(), 1.0)
    assert n_zero > 25
