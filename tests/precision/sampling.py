"""Random galaxies as tables of parameters in NumPy, and the models made of them, many at a time."""

import functools

import equinox as eqx
import jax
import numpy as np

import dspsx

#: Ranges that galaxies have, narrower than the bounds. A smooth history: quenching takes at least a tenth of its time.
DIFFSTAR = {
    "logm0": (10.5, 15.0),
    "logtc": (-0.5, 0.8),
    "early_index": (1.5, 5.0),
    "late_index": (0.1, 1.0),
    "t_peak": (2.0, 16.0),
    "lgmcrit": (11.0, 13.0),
    "lgy_at_mcrit": (-11.0, -9.0),
    "indx_lo": (0.0, 3.0),
    "indx_hi": (-3.0, 0.0),
    "lg_qt": (0.1, 1.4),
    "qlglgdt": (-1.0, -0.01),
    "lg_drop": (-3.0, 0.0),
    "lg_rejuv": (-3.0, 0.0),
}
HALO = ("logm0", "logtc", "early_index", "late_index", "t_peak")
DUST = {"av": (0.0, 4.0), "bump": (0.0, 6.0), "delta": (-1.2, 0.6)}


def uniform(rng, n, ranges):
    """Columns of n random numbers, rounded to float32 so that both precisions are given the same."""
    return {name: rng.uniform(lo, hi, n).astype(np.float32).astype(float) for name, (lo, hi) in ranges.items()}


def diffstar(rng, n, **changes):
    p = uniform(rng, n, DIFFSTAR | changes)
    p["lg_rejuv"] = np.maximum(p["lg_rejuv"], p["lg_drop"])
    return p


def delayed_tau(rng, n):
    """The whole box, in log for the times."""
    p = uniform(rng, n, {"lg_mass_formed": (6.0, 12.5), "lg_age": (-2.0, np.log10(15)), "lg_tau": (-2, np.log10(30))})
    age, tau = (np.clip(10 ** p.pop(k), lo, hi) for k, lo, hi in (("lg_age", 0.01, 15), ("lg_tau", 0.01, 30)))
    return p | {"age": age.astype(np.float32).astype(float), "tau": tau.astype(np.float32).astype(float)}


def tables(rng, n, t_table):
    """Smooth curves: sums of three lognormals of time, of any width above 0.1 dex and of any height within 3 dex."""
    peak, width, height = (
        rng.uniform(-0.5, 1.3, (3, n, 1)),
        rng.uniform(0.1, 0.6, (3, n, 1)),
        rng.uniform(-1, 2, (3, n, 1)),
    )
    sfr = (10**height * np.exp(-0.5 * ((np.log10(t_table) - peak) / width) ** 2)).sum(0) + 1e-3
    return {"sfr_table": sfr.astype(np.float32).astype(float)}


def row(p, i):
    return {name: column[i] for name, column in p.items()}


def _diffstar(p):
    halo = dspsx.DiffmahHalo(**{k: p[k] for k in HALO})
    return dspsx.DiffstarSFH(mah=halo, **{k: v for k, v in p.items() if k not in HALO})


MAKERS = {
    "diffstar": _diffstar,
    "delayed tau": lambda p: dspsx.DelayedTauSFH(**p),
    "table": lambda p: dspsx.TabulatedSFH(**p),
}


@functools.cache
def _evaluator(kind, method):
    def evaluate(sfh, rest, shared):
        dust = dspsx.Salim18(**rest["dust"]) if "dust" in rest else dspsx.NoDust()
        galaxy = dspsx.GalaxySEDModel(
            sfh=MAKERS[kind](sfh),
            metallicity=dspsx.LognormalMDF(lgmet=rest["lgmet"], scatter=rest["scatter"]),
            redshift=rest["redshift"],
            dust=dust,
            **shared,
        )
        return method(galaxy)

    return eqx.filter_jit(eqx.filter_vmap(evaluate, in_axes=(0, 0, None)))


def magnitudes(galaxy):
    return galaxy.magnitudes()


def rest_magnitudes(galaxy):
    return galaxy.rest_magnitudes()


def both_magnitudes(galaxy):
    return galaxy.rest_magnitudes(), galaxy.magnitudes()


def age_weights(galaxy):
    return galaxy.sfh.age_weights(galaxy.ssp.lg_age, galaxy.t_obs)


def evaluate(method, kind, sfh, rest, bands, cosmology, chunk=100):
    """A method of galaxies, made under vmap in the current precision from columns of numbers; NumPy out, in float64."""
    shared = {
        "ssp": dspsx.SSPGrid.default(),
        "filters": dspsx.FilterSet.load(bands),
        "cosmology": dspsx.Cosmology(**cosmology),
    }
    n = rest["redshift"].size
    run = _evaluator(kind, method)
    dtype = np.dtype(jax.numpy.zeros(()).dtype)
    out = []
    for start in range(0, n, chunk):
        rows = slice(start, start + chunk)
        part = jax.tree.map(lambda x, rows=rows: x[rows].astype(dtype), (sfh, rest))
        out.append(jax.tree.map(lambda x: np.asarray(x, float), run(*part, shared)))
    return jax.tree.map(lambda *x: np.concatenate(x), *out)
