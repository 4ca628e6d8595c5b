"""Halo growth and star formation histories against diffmah and diffstar, over the whole range of their parameters."""

import dataclasses
import itertools

import equinox as eqx
import jax.numpy as jnp
import numpy as np

from dspsx import DiffmahHalo, DiffstarSFH
from tests.parity.peers import diffmah_histories, diffstar_histories, peer_bounds

T0, FB = 13.8, 0.156
RTOL = 1e-6
N_RANDOM, N_TIMES = 1000, 60


def draws(rng, bounds):
    """Draws inside the bounds, draws with one parameter in three on a bound, and all corners."""
    lo, hi = (np.array([b[i] for b in bounds.values()], float) for i in (0, 1))
    inside = rng.uniform(lo, hi, (N_RANDOM, lo.size))
    edge = np.where(rng.random((N_RANDOM, lo.size)) < 0.5, lo, hi)
    mixed = np.where(rng.random((N_RANDOM, lo.size)) < 1 / 3, edge, rng.uniform(lo, hi, (N_RANDOM, lo.size)))
    corners = np.array(list(itertools.product(*zip(lo, hi, strict=True))))
    return dict(zip(bounds, np.concatenate([inside, mixed, corners]).T, strict=True))


def times(rng, t_peak, n):
    """From 0.01 to 13.8 Gyr, t_peak itself among them where it lies in between."""
    t = np.concatenate(
        [np.full((n, 1), 0.01), 10 ** rng.uniform(-2, np.log10(T0), (n, N_TIMES - 3)), np.full((n, 1), T0)], 1
    )
    return np.sort(np.concatenate([t, np.clip(t_peak, 0.01, T0)[:, None]], 1), 1)


def names(cls, without):
    return [f.name for f in dataclasses.fields(cls) if f.name not in without]


@eqx.filter_jit
@eqx.filter_vmap(in_axes=(0, 0))
def our_halo(params, t):
    halo = DiffmahHalo(**params, t0=T0)
    return halo.log_mah(t), halo.dmhdt(t)


@eqx.filter_jit
@eqx.filter_vmap(in_axes=(0, 0, 0))
def our_sfr(sfh, mah, t):
    return DiffstarSFH(mah=DiffmahHalo(**mah, t0=T0), **sfh, fb=FB).sfr(t)


def jaxed(params):
    return {name: jnp.asarray(value) for name, value in params.items()}


def test_bounds_are_the_peers(peer):
    """The parameters have the names and the bounds of diffmah's and diffstar's."""
    mah_bounds, sfh_bounds = peer(peer_bounds)
    for cls, bounds, without in ((DiffmahHalo, mah_bounds, ["t0"]), (DiffstarSFH, sfh_bounds, ["mah", "fb"])):
        assert names(cls, without) == list(bounds)
        for field in dataclasses.fields(cls):
            if field.name in bounds:
                assert field.metadata["dspsx"].bounds == tuple(bounds[field.name]), field.name


def test_diffmah(peer, x64):
    """Mass and accretion rate, everywhere: nothing overflows in float64 and nothing is left out.

    Where late_index exceeds early_index the rate changes sign; near that root it is compared on the scale M / t.
    """
    rng = np.random.default_rng(20)
    params = draws(rng, peer(peer_bounds)[0])
    n = params["t_peak"].size
    t = times(rng, params["t_peak"], n)
    log_mah, dmhdt = (np.asarray(x) for x in our_halo(jaxed(params), jnp.asarray(t)))
    their_dmhdt, their_log_mah = peer(diffmah_histories, params, t, np.log10(T0))
    assert np.isfinite(their_dmhdt).all() and np.isfinite(their_log_mah).all()
    assert np.abs(log_mah - their_log_mah).max() * np.log(10) < RTOL  # relative, in M
    scale = 10 ** (their_log_mah - 9) / t
    assert np.all((dmhdt == 0) == (their_dmhdt == 0))
    assert np.all(np.abs(dmhdt - their_dmhdt) <= RTOL * np.abs(their_dmhdt) + 1e-12 * scale)


def test_diffstar(peer, x64):
    """The star formation rate, everywhere: nothing overflows in float64 and nothing is left out.

    Half of the draws have halos from the whole box, of which many never form a star (both sides have a floor of
    1e-14 Msun/yr), half have halos above 10^10 Msun with early_index above late_index.
    """
    rng = np.random.default_rng(21)
    mah_bounds, sfh_bounds = peer(peer_bounds)
    sfh = draws(rng, sfh_bounds)
    n = sfh["lgmcrit"].size
    mah = {k: np.resize(v, n)[rng.permutation(n)] for k, v in draws(rng, mah_bounds).items()}
    massive = rng.random(n) < 0.5
    mah["logm0"] = np.where(massive, rng.uniform(10.0, 15.0, n), mah["logm0"])
    early, late = np.maximum(mah["early_index"], mah["late_index"]), np.minimum(mah["early_index"], mah["late_index"])
    mah["early_index"] = np.where(massive, early, mah["early_index"])
    mah["late_index"] = np.where(massive, late, mah["late_index"])
    t = times(rng, mah["t_peak"], n)
    sfr = np.asarray(our_sfr(jaxed(sfh), jaxed(mah), jnp.asarray(t)))
    expected = peer(diffstar_histories, sfh, mah, t, np.log10(T0), FB)
    assert np.isfinite(expected).all() and (expected > 1e-10).mean() > 0.25
    np.testing.assert_allclose(sfr, expected, rtol=RTOL)


def test_published_vectors(x64):
    """The numbers of diffmah 0.7.3 and diffstar 1.0.3 at their defaults, to the digits given."""
    t = jnp.asarray([1.0, 3.0, 6.0, 10.0, 13.8])
    halo = DiffmahHalo(t0=T0)
    np.testing.assert_allclose(halo.log_mah(t), [10.31426879, 11.61395944, 11.88884584, 11.97016665, 12.0], atol=6e-9)
    np.testing.assert_allclose(halo.dmhdt(t), [81.2459, 198.1031, 66.9760, 23.7219, 13.0850], atol=6e-5)
    sfr = DiffstarSFH(mah=halo, fb=FB).sfr(t)
    np.testing.assert_allclose(sfr, [6.63228e-3, 2.78128, 10.72969, 1.38542, 9.51885], rtol=4e-6)
