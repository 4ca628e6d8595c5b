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
#: tests, and of each law of dust that dspsx has.
_N_FIT, N_TEST, _N_MORE, _N_LAW = 300, 200, 2000, 60
#: Of those of the last tests, how many the factors of a segment of redshift are tested with: those that are seen nearest to it.
_N_NEAR = 300
#: What no transmission is less than: single precision has it yet.
_DARK = 1e-37
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


def at_waves(x: np.ndarray, j: np.ndarray) -> np.ndarray:
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


@dataclasses.dataclass(frozen=True)
class More:
    """Galaxies for the last tests: their stars (galaxy, star), redshifts, and of each one of its screens of dust, behind the gas,
    and the gas alone (galaxy, wave), in single precision."""

    population: np.ndarray
    redshift: np.ndarray
    transmission: np.ndarray
    gas: np.ndarray

    def rows(self, chosen: np.ndarray) -> "More":
        return More(self.population[chosen], self.redshift[chosen], self.transmission[chosen], self.gas[chosen])


class Examples:
    """Light and transmissions that nodes, rank and redshifts are fitted to and tested with.

    Of `transmission` (example, wave) the first `n_fit` are fitted, the others test: with as many of the galaxies of `light`, in the
    order `tested`. `more` galaxies are for last tests, of what has passed these.
    """

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
        shines, is_more = mass[:, 0] > 0, np.arange(n) >= _N_FIT + N_TEST
        if not shines[~is_more].any():
            raise ValueError(
                "compress: no galaxy has stars, of those that were drawn from the bounds of the model's parameters."
            )
        population = weights / np.where(shines, mass[:, 0], 1.0)[:, None]
        laws = [
            each_galaxy(_screens, draw(dataclasses.replace(full, dust=law()), rng, _N_LAW))[:, 0]
            for law in (Calzetti00, Noll09, Salim18, PowerLawDust)
        ]
        fitted = [np.ones((1, self.wave.size)), *laws, screens[:_N_FIT].reshape(-1, self.wave.size)]
        self.n_fit = sum(map(len, fitted))
        of_tests = screens[_N_FIT : _N_FIT + N_TEST].reshape(-1, self.wave.size)
        self.transmission = np.concatenate([*fitted, of_tests])
        of_more = screens[is_more, np.arange(_N_MORE) % screens.shape[1]].astype(np.float32)
        self.gas, gas_of_more = np.ones((len(self.transmission), 1)), np.ones((_N_MORE, 1), np.float32)
        if full.lines is not None and full.lines.transmission(full.ssp.wave) is not None:
            # whatever share of the ionising light gets through the gas
            left = np.clip(rng.uniform(-0.5, 1.5, (len(self.gas) + _N_MORE, 1)), 0.0, 1.0)
            gas = np.where(self.wave < LYMAN_LIMIT, left, 1.0)
            self.gas, gas_of_more = gas[: len(self.gas)], gas[len(self.gas) :].astype(np.float32)
        self.transmission = np.maximum(self.transmission * self.gas, _DARK)
        of_more = np.maximum(of_more * gas_of_more, np.float32(_DARK))
        self.population = population[shines & ~is_more]
        self.more = More(population[is_more], np.asarray(z)[is_more], of_more, gas_of_more).rows(shines[is_more])
        self.light = self.population @ self.flux
        self.tested = rng.permutation(len(self.light))
        self.full = full
        self.dimmest = 1e-33 if depth is None else 10 ** (-0.4 * depth)
        self.rng = rng

    def of_stars(self) -> "Examples":
        """The same without the spectra of the gas."""
        stars = copy.copy(self)
        stars.flux = self.flux[: self.n_stars]
        stars.population = self.population[:, : self.n_stars]
        stars.more = dataclasses.replace(self.more, population=self.more.population[:, : self.n_stars])
        return stars

    def near(self, redshift: float) -> "Examples":
        """The same with those galaxies for the last tests that are seen nearest to a redshift: others are too old or too young."""
        here, far = copy.copy(self), np.abs(np.log((1.0 + self.more.redshift) / (1.0 + redshift)))
        here.more = self.more.rows(np.argsort(far, kind="stable")[:_N_NEAR])
        return here

    def tests(self) -> np.ndarray:
        """Stars (galaxy, star) of the galaxies that errors are found with."""
        return self.population[self.tested[:N_TEST]]

    def least_transmission(self, end: float, u: np.ndarray) -> np.ndarray:
        """The transmission of a band below which errors are relative to it, at each u = ln(1 + z), of a band whose red end is at
        `end`: where gas may take all of it, blueward of the Lyman limit, what leaks is not certified."""
        taken = (end <= LYMAN_LIMIT * np.exp(u)) & (self.gas.shape[1] > 1)
        return np.where(taken, max(self.dimmest, _LEAK), self.dimmest)

    def on_the_way(self, redshifts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The transmissions, and those of `more`, seen through what lies between the galaxy and us, each at one redshift."""
        if self.full.igm is None and self.full.foreground is None:
            return self.transmission, self.more.transmission
        n = len(self.transmission)
        galaxies = draw(self.full, self.rng, n)
        z = jnp.asarray(self.rng.choice(redshifts, n), self.full.redshift.dtype)
        left = each_galaxy(_on_the_way, eqx.tree_at(lambda g: g.redshift, galaxies, z))
        # the same ways again for more galaxies: they take long to compute
        more = self.more.transmission * left.astype(np.float32)[np.arange(len(self.more.transmission)) % n]
        return np.maximum(self.transmission * left, _DARK), np.maximum(more, np.float32(_DARK), out=more)
