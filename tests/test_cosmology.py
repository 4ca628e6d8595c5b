"""Cosmology by itself: limits, names, gradients at the edges, precision. Its values are tested in parity/."""

import functools
import itertools

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

import dspsx
from dspsx._model import parameters_of
from dspsx.cosmology import Cosmology

METHODS = (
    "efunc",
    "age",
    "lookback_time",
    "comoving_distance",
    "luminosity_distance",
    "angular_diameter_distance",
    "differential_comoving_volume",
    "distance_modulus",
    "dimming",
)
PARAMETERS = parameters_of(Cosmology)
BOUNDS = [info.bounds for info in PARAMETERS.values()]
Z_EDGES = (0.0, 1e-8, 1e-4, 1e-3, 0.01, 0.1, 0.5, 1.0, 2.0, 4.0, 10.0, 20.0)


@eqx.filter_jit
def everything(cosmo, z):
    return {name: getattr(cosmo, name)(z) for name in METHODS}


@eqx.filter_jit
def values_and_gradients(cosmos, z):
    """Values and (reverse-mode) gradients by parameter and by z, for every cosmology and every redshift."""

    def one(cosmo, z):
        out = {n: jax.value_and_grad(lambda c, z, n=n: getattr(c, n)(z), argnums=(0, 1))(cosmo, z) for n in METHODS}
        return {n: value for n, (value, _) in out.items()}, {n: grads for n, (_, grads) in out.items()}

    return jax.vmap(lambda c: jax.vmap(lambda z: one(c, z))(z))(cosmos)


def test_at_redshift_zero(precision):
    cosmo = Cosmology()
    now = everything(cosmo, 0.0)
    for name in ("lookback_time", "comoving_distance", "luminosity_distance", "angular_diameter_distance"):
        assert now[name] == 0.0, name
    assert now["differential_comoving_volume"] == 0.0
    assert now["distance_modulus"] == 0.0
    assert now["dimming"] == 1.0
    np.testing.assert_allclose(now["efunc"], 1.0, rtol=1e-6)
    assert all(value.shape == () and value.dtype == precision for value in now.values())
    # nearer than 10 pc: magnitudes stay absolute; Hubble's law decides where that ends
    assert cosmo.distance_modulus(1e-9) == 0.0
    assert cosmo.distance_modulus(1e-8) > 0.0
    d_h = 299792.458 / 67.74
    assert jax.grad(cosmo.distance_modulus)(jnp.zeros(())) == 0.0
    np.testing.assert_allclose(jax.grad(cosmo.dimming)(jnp.zeros(())), 1.0)
    np.testing.assert_allclose(jax.grad(cosmo.luminosity_distance)(jnp.zeros(())), d_h, rtol=1e-6)
    np.testing.assert_allclose(cosmo.luminosity_distance(1e-8), 1e-8 * d_h, rtol=1e-6)


def test_einstein_de_sitter(precision):
    """Dark energy without pressure is matter: t = 2/3 (1 + z)^-1.5 / H0, D_C = 2 c / H0 (1 - (1 + z)^-0.5)."""
    cosmo, z = Cosmology(w0=0.0, wa=0.0, h=0.5, Tcmb0=0.0), jnp.asarray(3.0)
    np.testing.assert_allclose(cosmo.age(z), 2.0 / 3.0 / 8.0 * 977.7922216807892 / 50.0, rtol=1e-6)
    np.testing.assert_allclose(cosmo.comoving_distance(z), 299792.458 / 50.0, rtol=1e-6)


def test_relations(precision):
    """Age + lookback time is constant; dt/dz = -1 / (H0 (1 + z) E); dD_C/dz = c / (H0 E)."""
    cosmo = Cosmology.named("planck18")
    for z in (1e-4, 0.3, 2.0, 9.0):
        z = jnp.asarray(z)
        np.testing.assert_allclose(cosmo.age(z) + cosmo.lookback_time(z), cosmo.age(0.0), rtol=1e-6)
        rate = -977.7922216807892 / 67.66 / (1.0 + z) / cosmo.efunc(z)
        np.testing.assert_allclose(jax.grad(cosmo.age)(z), rate, rtol=1e-5)
        np.testing.assert_allclose(jax.grad(cosmo.lookback_time)(z), -rate, rtol=1e-5)
        np.testing.assert_allclose(jax.grad(cosmo.comoving_distance)(z), 299792.458 / 67.66 / cosmo.efunc(z), rtol=1e-5)
        np.testing.assert_allclose(cosmo.dimming(z), (1.0 + z) * 10.0 ** (-0.4 * cosmo.distance_modulus(z)), rtol=2e-5)


def test_massless_limit_and_no_radiation(x64):
    """A neutrino of negligible mass is massless; at Tcmb0 = 0 neither Neff nor m_nu matters, smoothly."""
    none, little = everything(Cosmology(m_nu=0.0), 3.0), everything(Cosmology(m_nu=1e-7), 3.0)
    for name in METHODS:
        np.testing.assert_allclose(none[name], little[name], rtol=1e-8)
    cold = everything(Cosmology(Tcmb0=0.0), 3.0)
    for other in (Cosmology(Tcmb0=0.0, Neff=0.0, m_nu=0.0), Cosmology(Tcmb0=1e-5, Neff=0.0, m_nu=0.0)):
        for name in METHODS:
            np.testing.assert_allclose(everything(other, 3.0)[name], cold[name], rtol=1e-12)


def corners():
    """Three cosmologies like ours, the defaults with one parameter at a bound, every corner of the bounds."""
    ours = (Cosmology(), Cosmology.named("fsps"), Cosmology(Om0=0.2, w0=-0.8, wa=-0.5, h=0.6, m_nu=0.4))
    rows = [{name: float(getattr(c, name)) for name in PARAMETERS} for c in ours]
    rows += [rows[0] | {name: bound} for name, info in PARAMETERS.items() for bound in info.bounds]
    rows += [dict(zip(PARAMETERS, row, strict=True)) for row in itertools.product(*BOUNDS)]
    return np.array([list(row.values()) for row in rows], dtype="float32")


@functools.cache
def at_the_corners(precision):
    """Values and gradients of every method at `corners` and `Z_EDGES`: the same float32 inputs in both precisions."""
    with jax.enable_x64(precision == "float64"):
        cosmos = eqx.filter_vmap(lambda *row: Cosmology(*row))(*jnp.asarray(corners().T, dtype=float))
        z = jnp.asarray(np.float32(Z_EDGES), dtype=float)
        return jax.tree.map(np.asarray, values_and_gradients(cosmos, z))


@pytest.mark.xdist_group("cosmology gradients")
def test_gradients_finite_everywhere(precision):
    """At z = 0 and just above, at z = 20, at each bound and at all corners of the bounds."""
    values, gradients = at_the_corners(precision)
    for path, leaf in jax.tree_util.tree_leaves_with_path((values, gradients)):
        assert np.isfinite(leaf).all(), jax.tree_util.keystr(path)
    assert (values["efunc"] > 0).all()
    assert (values["age"] > 0).all()
    assert (values["comoving_distance"][:, 1:] > 0).all()


@pytest.mark.xdist_group("cosmology gradients")
def test_float32_agrees_with_float64():
    """Values and gradients, in universes like ours."""
    (values32, gradients32), (values64, gradients64) = at_the_corners("float32"), at_the_corners("float64")
    for name in METHODS:
        narrow, wide = values32[name][:3], values64[name][:3]
        assert (narrow.dtype, wide.dtype) == (np.float32, np.float64)
        np.testing.assert_allclose(narrow, wide, rtol=2e-6, atol=2e-6 * (name == "distance_modulus"), err_msg=name)
        pairs = zip(jax.tree.leaves(gradients32[name]), jax.tree.leaves(gradients64[name]), strict=True)
        for a, b in pairs:
            assert (abs(a - b)[:3] <= 1e-5 * abs(b[:3]) + 2e-6 * abs(wide)).all(), name


def test_check_grads(x64):
    cosmos = (Cosmology(), Cosmology(Om0=0.2, w0=-0.8, wa=-0.5, h=0.6, m_nu=0.4), Cosmology(w0=-1.2, wa=0.3))
    pairs = list(itertools.product(cosmos, (0.01, 1.0, 12.0)))
    batch, z = dspsx.stack([c for c, _ in pairs]), jnp.asarray([z for _, z in pairs])
    logs = jax.jit(jax.vmap(lambda c, z: jnp.log(jnp.stack([getattr(c, name)(z) for name in METHODS]))))
    check_grads(logs, (batch, z), order=1, atol=1e-6, rtol=1e-5, eps=1e-5)


def test_vmap_equals_loop(precision):
    z = jnp.asarray([0.0, 1e-4, 0.5, 3.0, 20.0])
    cosmos = [
        Cosmology(),
        Cosmology.named("wmap9"),
        Cosmology.named("fsps"),
        Cosmology(w0=-0.9),
        Cosmology(h=0.5),
    ]
    together = jax.vmap(everything)(dspsx.stack(cosmos), z)
    for i, cosmo in enumerate(cosmos):
        for name, value in everything(cosmo, z[i]).items():
            np.testing.assert_allclose(together[name][i], value, rtol=1e-5 if precision == "float32" else 1e-12)


def test_redshift_as_number_or_array(precision):
    cosmo = Cosmology()
    for name in METHODS:
        assert getattr(cosmo, name)(0.5) == getattr(cosmo, name)(jnp.asarray(0.5))


@pytest.mark.parametrize("name", ["planck15", "Planck18", "PLANCK13", "wmap9", "WMAP5", "fsps"])
def test_names(name, precision):
    cosmo = Cosmology.named(name)
    assert 12.5 < float(cosmo.age(0.0)) < 14.0
    if name == "planck15":
        assert eqx.tree_equal(cosmo, Cosmology())


def test_bad_names():
    with pytest.raises(ValueError, match=r"unknown cosmology 'planck51'; use one of fsps, planck13, planck15"):
        Cosmology.named("planck51")
    with pytest.raises(TypeError, match="H0"):
        Cosmology(H0=70.0)
    with pytest.raises(ValueError, match=r"Cosmology.h = 70 is outside its bounds \[0.2, 1.5\]"):
        Cosmology(h=70.0)


def test_fixed_unless_asked_for(precision):
    assert not any(info.free for info in PARAMETERS.values())
    theta, rest = dspsx.partition(Cosmology(), where=lambda c: (c.Om0, c.h))
    assert len(jax.tree.leaves(theta)) == 2
    np.testing.assert_allclose(dspsx.combine(theta, rest).age(1.0), Cosmology().age(1.0), rtol=1e-5)


def test_one_trace(precision):
    run = eqx.filter_jit(eqx.debug.assert_max_traces(lambda c, z: c.age(z), max_traces=1))
    for om, z in ((0.3, 0.1), (0.25, 2.0)):
        run(Cosmology(Om0=om), jnp.asarray(z))
