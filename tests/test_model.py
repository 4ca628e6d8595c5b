"""The core: partition and combine, batches, replace, summary, and what a model is made of."""

import ast
import io
import pathlib
import re
import subprocess
import sys

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import dspsx
from dspsx import testing
from dspsx._model import Scalar, param


class Neural(dspsx.DustLaw):
    """A dust law with a network in it: what an ML user writes."""

    net: eqx.nn.MLP
    av: Scalar = param(0.5, bounds=(0.0, 5.0), unit="mag", doc="scale of the attenuation")

    def attenuation(self, wave):
        x = jnp.log(wave / 5500.0)[:, None]
        return self.av * jax.nn.softplus(jax.vmap(self.net)(x)[:, 0])


class OneMethodDust(dspsx.DustLaw):
    """A user's law: one parameter, one method."""

    av: Scalar = param(0.3, bounds=(0.0, 5.0), unit="mag", doc="attenuation at 5500 A")

    def attenuation(self, wave):
        return self.av * (wave / 5500.0) ** -0.7


def neural():
    return Neural(net=eqx.nn.MLP(1, 1, 8, 2, key=jax.random.key(0)))


def test_partition_takes_free_parameters_only():
    galaxy = testing.fake_galaxy(dust=dspsx.Calzetti00())
    theta, rest = dspsx.partition(galaxy)
    names = set(dspsx.named_parameters(theta))
    assert names == {n for n, (info, _) in dspsx.named_parameters(galaxy).items() if info.free}
    assert "redshift" not in names and "cosmology.h" not in names
    assert rest.ssp.flux is galaxy.ssp.flux
    assert theta.ssp.flux is None


def test_partition_where_chooses_components_and_fixed_parameters():
    galaxy = testing.fake_galaxy(dust=dspsx.Salim18())
    theta, _ = dspsx.partition(galaxy, where=lambda g: (g.dust, g.redshift))
    assert set(dspsx.named_parameters(theta)) == {"dust.av", "dust.bump", "dust.delta", "redshift"}


@pytest.mark.parametrize("bounds", [(0.0, 5.0), (0.0, None), (None, 2.0), (None, None)])
@pytest.mark.parametrize("value", [0.0, 1e-3, 1.3, 2.0])
def test_bounded_maps_are_inverses_with_finite_gradients(bounds, value, precision):
    from dspsx._numerics import to_bounded, to_unbounded

    x = jnp.asarray(value, float)
    u = to_unbounded(x, *bounds)
    assert np.isfinite(u) and np.isfinite(jax.grad(lambda x: to_unbounded(x, *bounds))(x))
    slope = jax.grad(lambda u: to_bounded(u, *bounds))(u)
    assert np.isfinite(slope) and slope > 0
    np.testing.assert_allclose(to_bounded(u, *bounds), value, atol=1e-5)


def test_an_optimiser_stays_in_bounds_and_leaves_data_alone():
    galaxy = testing.fake_galaxy(dust=dspsx.Calzetti00(av=0.1))
    flux = galaxy.ssp.flux
    theta, rest = dspsx.partition(galaxy)
    optimiser = optax.sgd(1e3)
    state = optimiser.init(theta)
    gradient = jax.jit(jax.grad(lambda t, r: dspsx.combine(t, r).magnitudes().sum()))
    for _ in range(3):
        updates, state = optimiser.update(gradient(theta, rest), state)
        theta = optax.apply_updates(theta, updates)
    best = dspsx.combine(theta, rest)
    assert best.ssp.flux is flux
    for name, (info, value) in dspsx.named_parameters(best).items():
        assert info.bounds[0] <= value <= info.bounds[1], name


def test_one_trace_of_a_training_step():
    galaxy = testing.fake_galaxy(dust=dspsx.Calzetti00())
    theta, rest = dspsx.partition(galaxy)

    @jax.jit
    @eqx.debug.assert_max_traces(max_traces=1)
    def step(theta, rest, data):
        gradient = jax.grad(lambda t: ((dspsx.combine(t, rest).fluxes() - data) ** 2).sum())(theta)
        return jax.tree.map(lambda t, g: t - 0.01 * g, theta, gradient)

    for scale in (1.0, 2.0, 3.0):
        theta = step(theta, rest, scale * galaxy.fluxes())


def test_stack_shares_the_grid_and_batches_parameters():
    one = testing.fake_galaxy(dust=dspsx.Calzetti00(av=0.1))
    two = dspsx.replace(one, lambda g: g.dust.av, 1.0)
    batch = dspsx.stack([one, two])
    assert batch.ssp.flux is one.ssp.flux
    assert batch.dust.av.shape == (2,)
    axes = dspsx.batch_axes(batch)
    together = eqx.filter_jit(eqx.filter_vmap(lambda g: g.magnitudes(), in_axes=(axes,)))(batch)
    np.testing.assert_allclose(together[1], two.magnitudes(), rtol=2e-6)
    assert eqx.tree_equal(dspsx.take(batch, 1), two)


def test_a_vmapped_constructor_shares_the_grid():
    ssp, filters = testing.fake_ssp(), testing.fake_filters()

    def build(av):
        return testing.fake_galaxy(ssp=ssp, filters=filters, dust=dspsx.Calzetti00(av=av))

    axes = dspsx.batch_axes(build(0.1), shared=lambda g: g.cosmology)
    batch = eqx.filter_vmap(build, out_axes=axes)(jnp.linspace(0.0, 1.0, 5))
    assert batch.ssp.flux.unsafe_buffer_pointer() == ssp.flux.unsafe_buffer_pointer()
    assert batch.dust.av.shape == (5,) and batch.cosmology.h.shape == ()
    assert dspsx.batch_axes(batch).cosmology.h is None
    fluxes = eqx.filter_vmap(lambda g: g.fluxes(), in_axes=(dspsx.batch_axes(batch),))(batch)
    assert fluxes.shape == (5, 3)
    assert dspsx.take(batch, slice(1, 3)).dust.av.shape == (2,)


def test_replace_puts_in_what_was_not_there_and_takes_it_out():
    galaxy = dspsx.GalaxySEDModel()
    shining = dspsx.replace(galaxy, lambda g: (g.igm, g.dust_emission), (dspsx.Madau95(), dspsx.Casey12()))
    assert isinstance(shining.igm, dspsx.Madau95) and isinstance(shining.dust_emission, dspsx.Casey12)
    assert dspsx.replace(shining, lambda g: g.igm, None).igm is None
    with pytest.raises(TypeError, match=r"igm must be an IGM"):
        dspsx.replace(galaxy, lambda g: g.igm, dspsx.Casey12())


def test_replace_keeps_dtype_and_original():
    galaxy = testing.fake_galaxy(dust=dspsx.Calzetti00(av=0.1))
    changed = dspsx.replace(galaxy, lambda g: (g.dust.av, g.redshift), (1, 0.5))
    assert (float(changed.dust.av), float(changed.redshift), float(galaxy.dust.av)) == (1.0, 0.5, pytest.approx(0.1))
    assert changed.dust.av.dtype == galaxy.dust.av.dtype
    swapped = dspsx.replace(galaxy, lambda g: g.dust, dspsx.NoDust())
    assert isinstance(swapped.dust, dspsx.NoDust)


def test_summary_is_a_table():
    out = io.StringIO()
    dspsx.summary(testing.fake_galaxy(dust=dspsx.Calzetti00()), file=out)
    assert re.search(r"dust\.av +0\.3 +mag +\[0, 6\] +free", out.getvalue())
    assert re.search(r"redshift +0\.3 +\[0, 20\] +fixed", out.getvalue())


def test_a_users_dust_law_with_one_method(tmp_path):
    import pickle

    galaxy = testing.fake_galaxy(dust=OneMethodDust(av=0.7))
    reference = testing.fake_galaxy(dust=dspsx.PowerLawDust(av=0.7, slope=-0.7))
    np.testing.assert_allclose(galaxy.magnitudes(), reference.magnitudes(), rtol=1e-6)
    theta, rest = dspsx.partition(galaxy, lambda g: g.dust.av)
    gradient = jax.jit(jax.grad(lambda t: dspsx.combine(t, rest).magnitudes().sum()))(theta)
    assert float(gradient.dust.av) > 0
    batch = dspsx.stack([galaxy, dspsx.replace(galaxy, lambda g: g.dust.av, 0.0)])
    magnitudes = eqx.filter_vmap(lambda g: g.magnitudes(), in_axes=(dspsx.batch_axes(batch),))(batch)
    assert (magnitudes[0] > magnitudes[1]).all()
    assert eqx.tree_equal(pickle.loads(pickle.dumps(galaxy)), galaxy)
    dspsx.save(tmp_path / "galaxy.h5", galaxy)
    assert eqx.tree_equal(dspsx.load(tmp_path / "galaxy.h5", ssp=galaxy.ssp), galaxy)


def test_a_network_in_an_ingredient_trains():
    truth = testing.fake_galaxy(dust=dspsx.PowerLawDust(av=1.0)).fluxes()
    galaxy = testing.fake_galaxy(dust=neural())
    theta, rest = dspsx.partition(galaxy, lambda g: g.dust)
    assert "dust.net.layers.0.weight" in dspsx.named_parameters(theta)
    optimiser = optax.adam(0.02)
    state = optimiser.init(theta)

    @jax.jit
    def step(theta, state):
        loss, g = jax.value_and_grad(lambda t: ((dspsx.combine(t, rest).fluxes() / truth - 1) ** 2).sum())(theta)
        updates, state = optimiser.update(g, state)
        return optax.apply_updates(theta, updates), state, loss

    losses = []
    with jax.numpy_dtype_promotion("standard"):  # optax itself mixes dtypes
        for _ in range(60):
            theta, state, loss = step(theta, state)
            losses.append(float(loss))
    assert losses[-1] < 0.05 * losses[0]


HOUSE = """
_numerics _multilinear _band_integrals _pixel_sums _files _model _operations _dsps units cosmology sfh metallicity mass_loss
dust filters ssp igm _progress nebular compressed light galaxy spectroscopy indices _chunks bulk io testing plot demo cli
"""
ORDER = HOUSE.split()


def test_imports_go_downwards():
    """A module imports only from those before it in the order of the house."""
    root = pathlib.Path(dspsx.__file__).parent
    arrows = 0
    for path in root.rglob("*.py"):
        if path == root / "__init__.py":
            continue
        here = path.relative_to(root).parts[0].removesuffix(".py")
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.ImportFrom) or not (node.module or "").startswith("dspsx"):
                continue
            parts = (node.module or "").split(".")
            for name in [parts[1]] if parts[1:] else {alias.name for alias in node.names} & set(ORDER):
                arrows += 1
                assert ORDER.index(name) <= ORDER.index(here), f"{path.name}, line {node.lineno}: imports {name}"
    assert arrows > 100


def test_import_is_light_and_leaves_jax_alone():
    """No global setting changes, no optional package is imported, and it takes under 1.5 s beyond JAX and equinox."""
    code = """
import sys, time
import jax, equinox
before = {k: v for k, v in jax.config.values.items()}
start = time.perf_counter()
import dspsx
print(time.perf_counter() - start)
assert {k: v for k, v in jax.config.values.items()} == before
heavy = {"astropy", "matplotlib", "tqdm", "speclite", "sedpy", "dsps", "diffstar", "diffmah", "blackjax", "scipy.optimize"}
assert not heavy & set(sys.modules), heavy & set(sys.modules)
"""
    seconds = [
        float(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout)
        for _ in range(3)
    ]
    assert min(seconds) < 1.5


@pytest.mark.parametrize(
    "sfh",
    [
        dspsx.DiffstarSFH(),
        dspsx.TabulatedSFH(np.linspace(1.0, 13.0, 13), np.ones(13)),
        dspsx.ContinuitySFH(),
        dspsx.WithBurst(),
        dspsx.SumSFH(),
        dspsx.NormalisedSFH(),
        dspsx.ConstantSFH(),
    ],
    ids=lambda sfh: type(sfh).__name__,
)
def test_a_time_may_be_a_plain_number(sfh):
    lg_age = jnp.linspace(-3.0, 1.1, 60)
    np.testing.assert_array_equal(sfh.age_weights(lg_age, 9.0), sfh.age_weights(lg_age, jnp.asarray(9.0)))
    assert sfh.sfr(9.0).shape == () and sfh.sfr(9.0) == sfh.sfr(jnp.asarray(9.0))
