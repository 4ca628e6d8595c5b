"""Cosmology against astropy, a table computed with astropy, and dsps."""

import csv

import astropy.cosmology as astropy_cosmology
import astropy.units as u
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import dspsx.cosmology
from dspsx.cosmology import Cosmology
from tests.parity.peers_cosmology import dsps_cosmology, dsps_named

Z = np.logspace(-4, 1, 80)
Z_HIGH = np.array([15.0, 20.0])
NO_RADIATION = {"Tcmb0": 0.0, "Neff": 3.04, "m_nu": 0.0}


def flat(h, Om0, w0, wa, Tcmb0=0.0, m_nu=0.0):
    """The same cosmology twice: ours (inside the test, for its dtype) and astropy's."""
    theirs = astropy_cosmology.Flatw0waCDM(
        100.0 * h, Om0, w0=w0, wa=wa, Tcmb0=Tcmb0, Neff=3.046, m_nu=[0.0, 0.0, m_nu] * u.eV
    )
    return lambda: Cosmology(h=h, Om0=Om0, w0=w0, wa=wa, Tcmb0=Tcmb0, m_nu=m_nu), theirs


PAIRS = {
    "Planck13": (lambda: Cosmology.named("planck13"), astropy_cosmology.Planck13),
    "Planck15": (Cosmology, astropy_cosmology.Planck15),
    "Planck18": (lambda: Cosmology.named("planck18"), astropy_cosmology.Planck18),
    "WMAP9": (lambda: Cosmology.named("wmap9"), astropy_cosmology.WMAP9),
    "WMAP5": (lambda: Cosmology.named("wmap5"), astropy_cosmology.WMAP5),
    "w0wa": flat(0.7, 0.3, -0.9, 0.2),
    "w0wa, radiation": flat(0.7, 0.3, -0.9, 0.2, Tcmb0=2.7255, m_nu=0.06),
    "w0wa, heavy neutrino": flat(0.6, 0.25, -1.1, -0.6, Tcmb0=2.7255, m_nu=0.8),
    "little matter, phantom": flat(0.7, 0.1, -1.2, -1.0, Tcmb0=2.7255, m_nu=0.06),
}


def astropy_says(cosmo, z):
    dc = cosmo.comoving_distance(z).value
    return {
        "efunc": cosmo.efunc(z),
        "age": cosmo.age(z).value,
        "lookback_time": cosmo.lookback_time(z).value,
        "comoving_distance": dc,
        "luminosity_distance": cosmo.luminosity_distance(z).value,
        "angular_diameter_distance": cosmo.angular_diameter_distance(z).value,
        "distance_modulus": cosmo.distmod(z).value,
        "differential_comoving_volume": cosmo.differential_comoving_volume(z).value,
        "dimming": (1.0 + z) * (1e-5 / cosmo.luminosity_distance(z).value) ** 2,
    }


METHODS = tuple(astropy_says(astropy_cosmology.Planck15, Z[:1]))


@eqx.filter_jit
def _everything(cosmo, z, nodes):
    return {name: jax.vmap(getattr(cosmo, name))(z) for name in METHODS}


def ours(cosmo, z):
    out = _everything(cosmo, jnp.asarray(z, dtype=cosmo.Om0.dtype), dspsx.cosmology.NODES)
    return {name: np.asarray(value, dtype=float) for name, value in out.items()}


@pytest.mark.parametrize("pair", PAIRS)
def test_astropy(pair, precision):
    build, theirs = PAIRS[pair]
    z = np.concatenate([Z, Z_HIGH]).astype(precision).astype(float)
    rtol = {"float64": 1e-6, "float32": 3e-6}[precision]
    expected, got = astropy_says(theirs, z), ours(build(), z)
    for name in METHODS:
        np.testing.assert_allclose(got[name], expected[name], rtol=rtol, err_msg=name)
    np.testing.assert_allclose(build().age(0.0), theirs.age(0).value, rtol=rtol)


def test_node_count_has_head_room(x64, monkeypatch):
    """Fewer nodes would still meet 1e-5 for Planck15; the errors told at `NODES` are about right."""
    z = np.concatenate([Z, Z_HIGH])
    expected = astropy_says(astropy_cosmology.Planck15, z)
    for nodes, age, distance in ((10, 3e-6, 1e-8), (12, 1e-6, 1e-10), (16, 2e-7, 1e-12)):
        monkeypatch.setattr(dspsx.cosmology, "NODES", nodes)
        got = ours(Cosmology(), z)
        np.testing.assert_allclose(got["age"], expected["age"], rtol=age)
        for name in ("lookback_time", "comoving_distance"):
            np.testing.assert_allclose(got[name], expected[name], rtol=distance)


def test_reference_table(shared, precision):
    with open(shared / "data" / "reference" / "cosmology_astropy.csv") as f:
        rows = list(csv.DictReader(f))
    cosmologies = {
        "Planck15": Cosmology(),
        "Planck18": Cosmology.named("Planck18"),
        "WMAP9": Cosmology.named("WMAP9"),
        "flat70_0.3": Cosmology(Om0=0.3, h=0.7, Tcmb0=0.0),
    }
    columns = {
        "DL_Mpc": "luminosity_distance",
        "age_Gyr": "age",
        "lookback_Gyr": "lookback_time",
        "dVdz_Mpc3_sr": "differential_comoving_volume",
    }
    assert {row["cosmo"] for row in rows} == set(cosmologies)
    for label, cosmo in cosmologies.items():
        mine = [row for row in rows if row["cosmo"] == label]
        z = np.array([float(row["z"]) for row in mine])
        got = ours(cosmo, z)
        for column, name in columns.items():
            expected = np.array([float(row[column]) for row in mine])
            np.testing.assert_allclose(got[name], expected, rtol=3e-6, err_msg=f"{label} {name}")


@pytest.mark.parametrize("values", [(0.3075, -1.0, 0.0, 0.6774), (0.27, -1.0, 0.0, 0.72), (0.3, -0.9, 0.2, 0.7)])
def test_dsps(values, peer, x64):
    """dsps has no radiation; its trapezoids are good to 1e-5 in distance and 4e-4 in time up to z = 6."""
    z = np.logspace(-4, np.log10(6.0), 40)
    cosmo = Cosmology(**dict(zip(("Om0", "w0", "wa", "h"), values, strict=True)), **NO_RADIATION)
    rtol = {"age": 5e-4, "lookback_time": 2e-4, "differential_comoving_volume": 3e-5}
    got = ours(cosmo, z)
    for name, expected in peer(dsps_cosmology, z, *values).items():
        np.testing.assert_allclose(got[name], expected, rtol=rtol.get(name, 1.5e-5), err_msg=name)


def test_names_of_dsps(peer, x64):
    for name, values in peer(dsps_named).items():
        cosmo = Cosmology.named(name)
        for key, value in values.items():
            assert float(getattr(cosmo, key)) == float(value), (name, key)
