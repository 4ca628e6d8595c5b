"""The main job in a minute: a galaxy from its halo up, ten thousand of them, and a fit of a real one, on one figure."""

import dataclasses
import time
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.flatten_util import ravel_pytree

from dspsx._model import named_parameters
from dspsx._operations import batch_axes, combine, partition
from dspsx.bulk import predict
from dspsx.cosmology import Cosmology
from dspsx.dust import Calzetti00, Salim18
from dspsx.filters import FilterSet
from dspsx.galaxy import GalaxySEDModel
from dspsx.metallicity import LognormalMDF
from dspsx.sfh import DelayedTauSFH, DiffmahHalo, DiffstarSFH
from dspsx.ssp import SSPGrid

#: Host of FRB 20180924B: AB magnitudes corrected for Galactic extinction, and what Prospector made of them with a
#: non-parametric history (Gordon et al. 2023, ApJ 954, 80).
HOST_NAME = "host of FRB 20180924B"
HOST_REDSHIFT = 0.3212
HOST_BANDS = ("decam_g", "decam_r", "decam_i", "decam_z", "decam_y", "vista_j", "vista_ks", "wise_w1")
HOST_MAGNITUDES = (21.424, 20.325, 20.004, 19.563, 19.651, 19.237, 18.968, 19.461)
HOST_ERRORS = (0.017, 0.007, 0.012, 0.011, 0.045, 0.106, 0.174, 0.215)
HOST_PUBLISHED = {
    "log10 mass formed / Msun": "10.60 (+0.02 -0.03)",
    "SFR, 100 Myr / Msun/yr": "0.62 (+0.32 -0.24)",
    "log10 Z / 0.0142": "-0.14 (+0.04 -0.04)",
    "A_V / mag": "0.11 (+0.03 -0.03)",
    "mean age by mass / Gyr": "5.63 (+0.53 -0.75)",
}
#: Relative error added to each flux for calibration and for what the spectra of the library get wrong.
ERROR_FLOOR = 0.05
_Z_SUN = 0.0142
#: Prior on lgmet: mean and width about those of the mass-metallicity relation at this mass (Gallazzi et al. 2005, MNRAS
#: 362, 41), which the published fit uses too; photometry alone cannot tell metallicity from dust.
LGMET_PRIOR = (np.log10(_Z_SUN) - 0.1, 0.3)


@dataclasses.dataclass(frozen=True)
class Fit:
    """Best model of a galaxy's photometry, with the data that it was fitted to (fluxes in maggies)."""

    galaxy: GalaxySEDModel
    flux: np.ndarray
    error: np.ndarray
    chi2: float
    derived: dict[str, tuple[float, float]]


def galaxy_from_halo() -> GalaxySEDModel:
    """A Milky-Way-like galaxy at z = 0.5, seen by LSST."""
    return GalaxySEDModel(
        sfh=DiffstarSFH(mah=DiffmahHalo(logm0=12.3), lg_qt=1.05, lg_drop=-0.6),
        metallicity=LognormalMDF(lgmet=-1.9, scatter=0.2),
        dust=Salim18(av=0.5, bump=1.0, delta=-0.2),
        filters=FilterSet.load("lsst_*"),
        redshift=0.5,
    )


def halo_population(n: int, redshift: float = 0.5, seed: int = 0) -> GalaxySEDModel:
    """A stacked model of n galaxies: halos with a steep mass function, histories that quench more often in heavy halos.

    The scatter of each parameter is illustrative, not calibrated.
    """
    rng = np.random.default_rng(seed)
    logm0 = 11.3 - np.log10(rng.uniform(10**-3.0, 1.0, n)) / 0.9
    early = rng.normal(2.6, 0.3, n).clip(1.0, 5.0)
    quenched = rng.uniform(size=n) < 1 / (1 + np.exp(-2.5 * (logm0 - 12.6)))
    lgmet = (-1.95 + 0.25 * (logm0 - 12.3) + 0.1 * rng.normal(size=n)).clip(-3.5, -1.4)
    columns = {
        "logm0": logm0,
        "logtc": rng.normal(0.05, 0.15, n).clip(-0.9, 0.9),
        "early": early,
        "late": (early * rng.uniform(0.03, 0.3, n)).clip(0.1, 5.0),
        "lgy": rng.normal(-9.9, 0.2, n).clip(-12, -8),
        "lg_qt": np.where(quenched, rng.uniform(0.3, 0.8, n), rng.uniform(1.2, 1.9, n)),
        "lg_drop": np.where(quenched, rng.uniform(-2.8, -1.5, n), -0.3),
        "lg_rejuv": np.where(quenched, rng.uniform(-2.8, -1.5, n), -0.2),
        "lgmet": lgmet,
        "av": np.where(quenched, rng.gamma(2.0, 0.08, n), rng.gamma(3.0, 0.2, n)).clip(0.0, 4.0),
        "delta": rng.normal(-0.2, 0.2, n).clip(-1.0, 0.6),
    }
    ssp, filters, cosmology = SSPGrid.default(), FilterSet.load("lsst_*"), Cosmology()

    def build(p):
        return GalaxySEDModel(
            ssp=ssp,
            sfh=DiffstarSFH(
                mah=DiffmahHalo(logm0=p["logm0"], logtc=p["logtc"], early_index=p["early"], late_index=p["late"]),
                lgy_at_mcrit=p["lgy"],
                lg_qt=p["lg_qt"],
                lg_drop=p["lg_drop"],
                lg_rejuv=p["lg_rejuv"],
            ),
            metallicity=LognormalMDF(lgmet=p["lgmet"]),
            dust=Salim18(av=p["av"], delta=p["delta"]),
            filters=filters,
            cosmology=cosmology,
            redshift=redshift,
        )

    params = {name: jnp.asarray(x, float) for name, x in columns.items()}
    axes = batch_axes(build(jax.tree.map(lambda x: x[0], params)), shared=lambda g: (g.cosmology, g.redshift))
    return eqx.filter_vmap(build, out_axes=axes)(params)


def lg_ssfr(galaxy: GalaxySEDModel) -> Any:
    """log10 of the specific star formation rate over 100 Myr, in 1/yr."""
    return jnp.log10(galaxy.sfr(0.1) / galaxy.mass_formed())


def population_colours(batch: GalaxySEDModel) -> tuple[np.ndarray, np.ndarray, float, float]:
    """Magnitudes (galaxy, band), log10 of the specific SFR in 1/yr, and the seconds of a first and of a second call."""
    seconds, found = [], {}
    for _ in range(2):
        start = time.perf_counter()
        found = predict(batch, {"magnitudes": "magnitudes", "lg_ssfr": lg_ssfr})
        seconds.append(time.perf_counter() - start)
    return found["magnitudes"], found["lg_ssfr"], *seconds


def host_model() -> GalaxySEDModel:
    """What is fitted to the host: a delayed exponential history, one metallicity, a screen of dust."""
    return GalaxySEDModel(
        sfh=DelayedTauSFH(lg_mass_formed=10.5, age=6.0, tau=1.5),
        metallicity=LognormalMDF(lgmet=-1.9, scatter=0.1),
        dust=Calzetti00(av=0.2),
        filters=FilterSet.load(HOST_BANDS),
        redshift=HOST_REDSHIFT,
    )


def fit_host(steps: int, starts: int, progress: Callable) -> Fit:
    """Fit the host's photometry with optax from many starting points at once; errors by the curvature at the best."""
    model = host_model()
    flux = 10 ** (-0.4 * np.asarray(HOST_MAGNITUDES))
    error = flux * np.hypot(np.asarray(HOST_ERRORS) * np.log(10) / 2.5, ERROR_FLOOR)
    theta, rest = partition(model, where=lambda g: (g.sfh, g.metallicity.lgmet, g.dust))
    observed, sigma = jnp.asarray(flux, float), jnp.asarray(error, float)

    def residuals(theta, rest):
        return (combine(theta, rest).fluxes() - observed) / sigma

    def loss(theta, rest):
        # half of chi squared, minus the log of priors: uniform between the bounds (in theta: logistic), times a Gaussian
        uniform = sum(jnp.sum(jax.nn.log_sigmoid(u) + jax.nn.log_sigmoid(-u)) for u in jax.tree.leaves(theta))
        galaxy: Any = combine(theta, rest)
        mean, width = LGMET_PRIOR
        gaussian = -0.5 * ((galaxy.metallicity.lgmet - mean) / width) ** 2
        return 0.5 * jnp.sum(residuals(theta, rest) ** 2) - uniform - gaussian

    optimiser = optax.adam(optax.cosine_decay_schedule(0.15, steps))
    block = max(steps // 25, 1)

    @eqx.filter_jit
    def advance(theta, state, rest):
        def step(carry, _):
            theta, state = carry
            grads = jax.vmap(jax.grad(loss), in_axes=(0, None))(theta, rest)
            updates, state = optimiser.update(grads, state, theta)
            return (optax.apply_updates(theta, updates), state), None

        (theta, state), _ = jax.lax.scan(step, (theta, state), length=block)
        return theta, state, jax.vmap(loss, in_axes=(0, None))(theta, rest)

    keys = iter(jax.random.split(jax.random.key(1), 100))
    theta = jax.tree.map(lambda u: u + jax.random.normal(next(keys), (starts,), u.dtype), theta)
    state = optimiser.init(theta)
    losses = jnp.zeros(starts)
    for _ in (bar := progress(range(steps // block))):
        theta, state, losses = advance(theta, state, rest)
        if hasattr(bar, "set_postfix_str"):
            bar.set_postfix_str(f"best loss {float(losses.min()):.2f}")
    best = jax.tree.map(lambda u: u[jnp.argmin(losses)], theta)
    galaxy = combine(best, rest)
    chi2 = float(jnp.sum(residuals(best, rest) ** 2))
    return Fit(galaxy, flux, error, chi2, _derived(loss, best, rest))


def derived_quantities(g: Any) -> dict[str, Any]:
    """What the published fit reports, of our model."""
    t_obs = g.t_obs
    return {
        "log10 mass formed / Msun": jnp.log10(g.mass_formed()),
        "SFR, 100 Myr / Msun/yr": g.sfr(0.1),
        "log10 Z / 0.0142": g.metallicity.lgmet - np.log10(_Z_SUN),
        "A_V / mag": g.dust.av,
        "mean age by mass / Gyr": g.sfh.mean_age(t_obs),
    }


def _derived(loss, theta, rest) -> dict[str, tuple[float, float]]:
    """Each quantity with its error by linear propagation of the inverse curvature of the loss."""
    flat, unravel = ravel_pytree(theta)

    @eqx.filter_jit
    def propagate(flat, rest):
        curvature = jax.hessian(lambda f: loss(unravel(f), rest))(flat)
        values = derived_quantities(combine(unravel(flat), rest))
        slopes = jax.jacfwd(lambda f: derived_quantities(combine(unravel(f), rest)))(flat)
        # directions that the data do not bend are left to the priors, which bend every one by some
        eigen, vectors = jnp.linalg.eigh((curvature + curvature.T) / 2)
        covariance = (vectors / jnp.maximum(eigen, 0.05)[None, :]) @ vectors.T
        return values, {k: jnp.sqrt(s @ covariance @ s) for k, s in slopes.items()}

    values, errors = propagate(flat, rest)
    return {k: (float(values[k]), float(errors[k])) for k in values}


def gradient_table(galaxy: GalaxySEDModel) -> list[list[str]]:
    """d magnitude / d parameter for each free parameter, a row each, in physical units."""
    params, rest = partition(galaxy, physical=True)
    jacobian = eqx.filter_jit(jax.jacrev(lambda p, r: combine(p, r, physical=True).magnitudes()))(params, rest)
    return [
        [name, info.unit, *(f"{float(x):+.3f}" for x in slopes)]
        for name, (info, slopes) in named_parameters(jacobian).items()
    ]
