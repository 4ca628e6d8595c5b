"""Tiny fakes, and the list of what every ingredient must satisfy, so that users can test their own."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from dspsx._model import AbstractModel, Parameter, infos
from dspsx.cosmology import Cosmology
from dspsx.dust.attenuation import DustLaw, DustModel
from dspsx.dust.draine import DustTable
from dspsx.dust.emission import DustEmission
from dspsx.filters import FilterSet
from dspsx.galaxy import GalaxySEDModel
from dspsx.igm import IGM
from dspsx.mass_loss import MassLoss
from dspsx.metallicity import MetallicityModel
from dspsx.nebular import EmissionLines
from dspsx.sfh.base import StarFormationHistory
from dspsx.sfh.diffmah import MassAccretionHistory
from dspsx.sfh.parametric import DelayedTauSFH
from dspsx.ssp import SSPGrid


def fake_ssp(n_met: int = 4, n_age: int = 12, n_wave: int = 60, seed: int = 0) -> SSPGrid:
    """A small grid with smooth, plausible spectra (blackbody-like, fainter and redder with age): fast, not physical."""
    rng = np.random.default_rng(seed)
    lgmet, lg_age = np.linspace(-4.0, -1.4, n_met), np.linspace(-3.5, 1.15, n_age)
    wave = np.geomspace(300.0, 5e4, n_wave)
    temperature = 3e4 * 10 ** (-0.2 * (lg_age[None, :] + 3.5)) * 10 ** (-0.03 * (lgmet[:, None] + 4))
    x = 1.43878e8 / (wave * temperature[..., None])
    flux = 1e-13 * 10 ** (-0.7 * (lg_age[None, :, None] + 3.5)) * x**3 / np.expm1(np.minimum(x, 80.0))
    flux *= 1 + 0.05 * rng.standard_normal(flux.shape)
    return SSPGrid(wave=wave, lg_age=lg_age, lgmet=lgmet, flux=flux, provenance=(("library", "fake"),))


def fake_filters() -> FilterSet:
    """Three smooth bands at 3600, 5500 and 9000 Angstrom."""
    centres = (3600.0, 5500.0, 9000.0)
    waves = [np.linspace(0.8 * c, 1.2 * c, 25) for c in centres]
    curves = [np.cos(np.linspace(-1, 1, 25) * np.pi / 2).clip(0) ** 2 for _ in centres]
    return FilterSet.from_arrays(["fake_blue", "fake_green", "fake_red"], waves, curves)


def fake_galaxy(**ingredients: Any) -> GalaxySEDModel:
    """A galaxy on the fake grid and bands, with a delayed tau history unless told otherwise."""
    defaults: dict[str, Any] = {
        "ssp": fake_ssp(),
        "filters": fake_filters(),
        "sfh": DelayedTauSFH(),
        "redshift": 0.3,
    }
    return GalaxySEDModel(**(defaults | ingredients))


def fake_dust_table() -> DustTable:
    """A table of blackbodies, hotter in more intense starlight, with a band at 7.7 micron for the PAHs."""
    wave, q_pah, u_min = np.geomspace(1e4, 1e8, 120), np.array([0.47, 2.0, 4.58]), np.array([0.1, 1.0, 25.0])
    t = np.array([20.0, 50.0])[:, None, None] * u_min[None, :, None] ** (1 / 6)
    body = wave**-3 / np.expm1(np.minimum(1.44e8 / (wave * t), 80.0))
    band = np.exp(-((np.log(wave / 7.7e4) / 0.2) ** 2)) * body.max(-1, keepdims=True)
    return DustTable.from_spectra(wave, q_pah, u_min, body[:, None] + 0.01 * q_pah[:, None, None] * band[:, None])


def evaluate(model: AbstractModel) -> jax.Array:
    """One flat array that depends on everything an ingredient does: what the contract tests differentiate."""
    dtype = jnp.zeros(()).dtype
    lg_age, lgmet = jnp.linspace(-3.0, 1.1, 15, dtype=dtype), jnp.linspace(-4.0, -1.4, 6, dtype=dtype)
    wave, t_obs = jnp.geomspace(200.0, 3e4, 40, dtype=dtype), jnp.asarray(9.0, dtype)
    t = jnp.linspace(0.05, 13.5, 30, dtype=dtype)
    if isinstance(model, StarFormationHistory):
        totals = model.mean_sfr(t_obs, 0.1)[None] * 1e9
        # masses span twenty decades: compressed by a function without a singular point
        masses = jnp.arcsinh(jnp.concatenate([model.age_weights(lg_age, t_obs), totals]) / 1e3)
        return jnp.concatenate([model.sfr(t), masses])
    if isinstance(model, MassAccretionHistory):
        return model.log_mah(t)
    if isinstance(model, MetallicityModel):
        return model.checked_weights(lgmet, lg_age, DelayedTauSFH(), t_obs).ravel()
    if isinstance(model, MassLoss):
        return model.surviving(lgmet, lg_age).ravel()
    if isinstance(model, EmissionLines):
        galaxy = fake_galaxy()
        weights = galaxy.weights()[None]
        light = [jnp.arcsinh(model.luminosities(galaxy.ssp, weights)[1] / 1e3).ravel()]
        glow, left = model.continuum(galaxy.ssp, weights, wave), model.transmission(wave)
        light += [] if glow is None else [jnp.arcsinh(glow * 1e9).ravel()]
        return jnp.concatenate(light if left is None else [*light, left])
    if isinstance(model, IGM):
        return jnp.concatenate([model.transmission(wave, jnp.asarray(z, dtype)) for z in (0.0, 3.0, 8.0)])
    if isinstance(model, DustLaw):
        return jnp.concatenate([model.attenuation(wave), model.transmission(wave)])
    if isinstance(model, DustModel):
        share, transmission = model.screens(wave, lg_age)
        return (share.T @ transmission).ravel()
    if isinstance(model, DustEmission):
        # over the emission of dust at 30 K or so
        return model.spectrum(jnp.geomspace(91.0, 1e8, 60, dtype=dtype)) * 1e13
    if isinstance(model, Cosmology):
        z = jnp.asarray(0.7, dtype)
        return jnp.stack([model.age(z), model.distance_modulus(z), model.lookback_time(z)])
    if isinstance(model, GalaxySEDModel):
        mass = jnp.arcsinh(model.mass_formed() / 1e3)
        left = jnp.arcsinh(model.mass_surviving() / 1e3)
        absorbed = jnp.arcsinh(model.dust_luminosity() / 1e3)
        return jnp.concatenate(
            [model.magnitudes(), model.rest_magnitudes(), jnp.stack([mass, left, absorbed, model.sfr()])]
        )
    raise TypeError(f"testing.evaluate does not know what to ask of a {type(model).__name__}.")


def draw(model: Any, rng: np.random.Generator, where: Callable[[float, float], float] | None = None) -> Any:
    """A copy of `model` with every bounded parameter drawn uniformly inside its bounds, or placed by `where(lo, hi)`."""

    def new(info: Any, x: Any) -> Any:
        lo, hi = info.bounds if isinstance(info, Parameter) else (None, None)
        if lo is None or hi is None:
            return x
        value = where(lo, hi) if where else rng.uniform(lo + 0.02 * (hi - lo), hi - 0.02 * (hi - lo))
        return jnp.full_like(x, value)

    return jax.tree.map(new, infos(model), model)
