"""Galaxies drawn from the whole box of a model's parameters: their light, and what dust leaves of it."""

import copy
import dataclasses
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from dspsx._model import Parameter, infos
from dspsx.dust.attenuation import Calzetti00, Noll09, PowerLawDust, Salim18
from dspsx.nebular import LYMAN_LIMIT

#: Examples: galaxies of the model's own box that the nodes are fitted to, those that all tests are made with, those of the last
#: test, and of each law of dust that dspsx has.
_N_FIT, N_TEST, _N_MORE, _N_LAW = 300, 200, 2000, 60
#: Of those of the last test, how many a segment of redshift has: those that are seen nearest to it.
_N_NEAR = 300
#: Share of a band's light that counts at least, where the gas may take all.
_LEAK = 1e-2


def draw(model: Any, rng: np.random.Generator, n: int) -> Any:
    """A batch of n models with every free, bounded parameter drawn uniformly in its bounds, one in ten on a bound."""

    def new(info: Any, x: Any) -> Any:
        if not isinstance(info, Parameter):
            return x
        lo, hi = info.bounds
        values = np.broadcast_to(np.asarray(x), (n, *np.shape(x)))
        if info.free and lo is not None and hi is not None:
            u = rng.uniform(size=values.shape)
            u = np.where(rng.uniform(size=values.shape) < 0.1, np.round(u), u)
            values = lo + (hi - lo) * u
        return jnp.asarray(values, x.dtype)

    return jax.tree.map(new, infos(model), model)


def columns(x: np.ndarray, j: np.ndarray) -> np.ndarray:
    """x[:, j] for indices that rise; not a copy, if they are all those between the first and the last."""
    return x[:, j[0] : j[-1] + 1] if j[-1] - j[0] + 1 == j.size else x[:, j]


def each_galaxy(function: Any, model: Any, n: int = 50) -> Any:
    """A function of each galaxy of a batch, n at a time, in NumPy. A function of this module is compiled once."""
    axes = _axes(model)
    size = max(x.shape[0] for a, x in zip(jax.tree.leaves(axes), _batched(model), strict=True) if a == 0)
    parts = []
    for i in range(0, size, n):
        rows = np.minimum(np.arange(i, i + n), size - 1)
        part = jax.tree.map(lambda a, x: x[rows] if a == 0 else x, axes, model, is_leaf=lambda x: x is None)  # noqa: B023
        parts.append(jax.tree.map(lambda x: np.asarray(x, float)[: size - i], _run(function, part)))  # noqa: B023
    return jax.tree.map(lambda *x: np.concatenate(x), *parts)


def _axes(model: Any) -> Any:
    return jax.tree.map(lambda info: 0 if isinstance(info, Parameter) else None, infos(model))


@eqx.filter_jit
def _run(function: Any, batch: Any) -> Any:
    return eqx.filter_vmap(function, in_axes=(_axes(batch),))(batch)


def _stars_gas_and_screens(galaxy: Any) -> Any:
    """Weights of the stars, and after these of the gas's spectra, if they are known; and the screens of dust."""
    # in one program: most of the time is that of compiling
    weights = galaxy.weights()
    lines = galaxy.lines
    parts = None
    if lines is not None and lines.continuum_spectra(galaxy.ssp.wave) is not None:
        parts = lines.continuum_parts(galaxy.ssp, weights[None])
    gas = [] if parts is None else [parts[0]]
    return jnp.concatenate([weights.ravel(), *gas]), _screens(galaxy)


def _screens(galaxy: Any) -> Any:
    return galaxy.dust.checked_screens(galaxy.ssp.wave, galaxy.ssp.lg_age)[1]


def _on_the_way(galaxy: Any) -> Any:
    return galaxy.on_the_way(galaxy.ssp.wave)


def _batched(model: Any) -> list[Any]:
    kinds = jax.tree.leaves(infos(model))
    return [x for kind, x in zip(kinds, jax.tree.leaves(model), strict=True) if isinstance(kind, Parameter)]


class Examples:
    """Light and transmissions that nodes, rank and redshifts are fitted to and tested with."""

    def __init__(self, full: Any, lo: float, hi: float, depth: float | None, rng: np.random.Generator, bar: Any):
        bar.tell("examples of galaxies and dust")
        self.wave = np.asarray(full.ssp.wave, float)
        #: spectra of the stars, and after these of which the continuum of the gas is made
        self.flux = np.asarray(full.ssp.flux, float).reshape(-1, self.wave.size)
        self.n_stars = len(self.flux)
        spectra = None if full.lines is None else full.lines.continuum_spectra(full.ssp.wave)
        n = _N_FIT + N_TEST + _N_MORE
        z = jnp.asarray(np.expm1(rng.uniform(np.log1p(lo), np.log1p(hi), n)), full.redshift.dtype)
        galaxies = eqx.tree_at(lambda g: g.redshift, draw(full, rng, n), z)
        weights, screens = each_galaxy(_stars_gas_and_screens, galaxies)
        mass = weights[:, : self.n_stars].sum(1, keepdims=True)
        if spectra is not None:
            self.flux = np.concatenate([self.flux, np.asarray(spectra, float).T])
        if weights.shape[1] != len(self.flux):
            raise TypeError(
                f"compress: {type(full.lines).__name__} must write both `continuum_spectra` and `continuum_parts`, or neither; it "
                f"gives {len(self.flux) - self.n_stars} spectra and {weights.shape[1] - self.n_stars} parts."
            )
        population = (weights / np.where(mass > 0, mass, 1.0))[mass[:, 0] > 0]
        first = int((mass[: _N_FIT + N_TEST] > 0).sum())
        laws = [
            each_galaxy(_screens, draw(dataclasses.replace(full, dust=law()), rng, _N_LAW))[:, 0]
            for law in (Calzetti00, Noll09, Salim18, PowerLawDust)
        ]
        fitted = [np.ones((1, self.wave.size)), *laws, screens[:_N_FIT].reshape(-1, self.wave.size)]
        self.n_fit = sum(map(len, fitted))
        #: those that are fitted, then those that test, of which the first ones are for all tests
        self.transmission = np.maximum(np.concatenate([*fitted, screens[_N_FIT:].reshape(-1, self.wave.size)]), 1e-37)
        self.n_test = N_TEST * screens.shape[1]
        self.gas = np.ones((len(self.transmission), 1))
        if full.lines is not None and full.lines.transmission(full.ssp.wave) is not None:
            # whatever share of the ionising light gets through the gas
            left = np.clip(rng.uniform(-0.5, 1.5, (len(self.transmission), 1)), 0.0, 1.0)
            self.gas = np.where(self.wave < LYMAN_LIMIT, left, 1.0)
            self.transmission = np.maximum(self.transmission * self.gas, 1e-37)
        self.population, self.more_population = population[:first], population[first:]
        self._redshifts = np.asarray(z)[mass[:, 0] > 0][first:]
        self.light = self.population @ self.flux
        #: pairs of light and test transmissions
        self.tested = rng.permutation(len(self.light))
        self.full = full
        self.dimmest = 1e-33 if depth is None else 10 ** (-0.4 * depth)
        self.rng = rng

    def of_stars(self) -> "Examples":
        """The same without the spectra of the gas."""
        stars = copy.copy(self)
        stars.flux = self.flux[: self.n_stars]
        stars.population = self.population[:, : self.n_stars]
        stars.more_population = self.more_population[:, : self.n_stars]
        return stars

    def near(self, redshift: float) -> "Examples":
        """The same with those galaxies for the last test that are seen nearest to a redshift: others are too old or too young."""
        here, far = copy.copy(self), np.abs(np.log((1.0 + self._redshifts) / (1.0 + redshift)))
        here.more_population = self.more_population[np.argsort(far)[:_N_NEAR]]
        return here

    def least_transmission(self, end: float, u: np.ndarray) -> np.ndarray:
        """The transmission of a band below which errors are relative to it, at each u = ln(1 + z), of a band whose red end is at
        `end`: where gas may take all of it, blueward of the Lyman limit, what leaks is not certified."""
        taken = (end <= LYMAN_LIMIT * np.exp(u)) & (self.gas.shape[1] > 1)
        return np.where(taken, max(self.dimmest, _LEAK), self.dimmest)

    def on_the_way(self, redshifts: np.ndarray) -> np.ndarray:
        """The transmissions seen through what lies between the galaxy and us, each at one of the redshifts."""
        if self.full.igm is None and self.full.foreground is None:
            return self.transmission
        n = self.n_fit + self.n_test
        galaxies = draw(self.full, self.rng, n)
        z = jnp.asarray(self.rng.choice(redshifts, n), self.full.redshift.dtype)
        left = each_galaxy(_on_the_way, eqx.tree_at(lambda g: g.redshift, galaxies, z))
        return np.maximum(self.transmission * left[np.arange(len(self.transmission)) % n], 1e-37)
