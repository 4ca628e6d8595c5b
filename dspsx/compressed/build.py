"""Compress a galaxy to its bands, and measure what that costs."""

import dataclasses
import functools
import time
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from dspsx._model import AbstractModel, Parameter, infos, is_concrete, require_single
from dspsx._progress import Progress
from dspsx.compressed.bands import BandSSP, BandTable, EnergySSP
from dspsx.compressed.certificate import Certificate
from dspsx.compressed.nodes import fit, leading
from dspsx.dust.attenuation import Calzetti00, NoDust, Noll09, PowerLawDust, Salim18
from dspsx.filters import FilterSet
from dspsx.ssp import SSPGrid, widths_in_hertz

#: Angstrom. What is bluer than this at rest is left out of the certificate.
LYMAN_LIMIT = 911.76
#: Examples: galaxies of the model's own box that the nodes are fitted to, and of each law of dust that dspsx has.
_N_FIT, _N_TEST, _N_LAW = 300, 200, 60
#: Width in ln(1 + z) of a segment of a table, in which all redshifts share their nodes: for so many bands, and for more.
#: Narrow ones need fewer factors, and more memory in all.
_SEGMENT, _FEW_BANDS, _WIDE_SEGMENT = 0.025, 12, 0.05
#: Steps of a wide segment that are tried; a band that needs more than many has them for itself, if there are other bands.
_STEPS, _MANY_STEPS = (4, 8, 16, 32, 64, 128), 32
MMAG = 1e3 * 2.5 / np.log(10.0)
_MOST_FACTORS = 128
#: Shares of the tolerance that nodes, rank and steps in redshift may use up.
_SHARES = {"nodes": 0.5, "rank": 0.45, "steps": 0.25}


def compress(
    galaxy: Any,
    *,
    filters: FilterSet | None = None,
    redshift: float | tuple[float, float] | None = None,
    tol: float = 1e-3,
    depth: float | None = 50.0,
    n_galaxies: int = 1000,
    seed: int = 0,
    progress: bool | None = None,
) -> Any:
    """See `GalaxySEDModel.compress`."""
    started = time.perf_counter()
    full, lo, hi = _checked(galaxy, filters, redshift, tol, depth)
    bar = Progress("compress", progress)
    share, worst, validation, kept = np.ones(len(full.filters.names)), np.inf, None, {}
    try:
        examples = _Examples(full, lo, hi, depth, np.random.default_rng(seed), bar)
        for _ in range(4):
            build = _one_redshift if lo == hi else _table
            make = build(full, lo, hi, examples, share * tol * 1e3 / MMAG, bar, kept)
            make = functools.partial(make, energy=_energy(full, examples, share.min() * tol * 1e3 / MMAG))
            bar.tell("certificate")
            validation = validation or _Validation(full, lo, hi, depth, n_galaxies, seed + 1)
            small, certificate = _certify(full, make, validation, lo, hi, tol, started)
            worst = certificate.worst_mmag
            if worst <= 1e3 * tol:
                return small
            # bands whose nodes and factors did not do for all galaxies of the validation are made again
            share = np.where(np.array(certificate.worst_of_band) > 1e3 * tol, 0.5 * share, share)
    finally:
        bar.close()
    raise ValueError(
        f"compress: the tolerance of {1e3 * tol:g} mmag cannot be met: {worst:.3g} mmag at worst is the best "
        f"that was reached, in {full.redshift.dtype.name}. Give a larger tol, fewer bands, or a smaller range of redshift."
    )


def _checked(galaxy: Any, filters: Any, redshift: Any, tol: Any, depth: Any) -> tuple[Any, float, float]:
    require_single(galaxy)
    if not all(map(is_concrete, jax.tree.leaves(galaxy))):
        raise TypeError(
            "compress: the galaxy is being traced (jit, grad or vmap) and has no values yet; compress it outside."
        )
    if not isinstance(galaxy.ssp, SSPGrid):
        raise TypeError(f"compress: needs a galaxy on a full SSPGrid; this one holds {galaxy.ssp!r}.")
    if not isinstance(tol, float | int) or isinstance(tol, bool) or not 0 < tol < 1:
        raise ValueError(f"compress: tol must be a number of magnitudes between 0 and 1, such as 1e-3; got {tol!r}.")
    if depth is not None and (not isinstance(depth, float | int) or isinstance(depth, bool) or not depth > 0):
        raise ValueError(f"compress: depth must be a number of magnitudes of dimming above 0, or None; got {depth!r}.")
    if filters is not None and not isinstance(filters, FilterSet):
        raise TypeError(f"compress: filters must be a FilterSet, such as FilterSet.load('lsst_*'); got {filters!r}.")
    given = float(galaxy.redshift) if redshift is None else redshift
    try:
        lo, hi = (float(x) for x in (given if isinstance(given, tuple | list) else (given, given)))
    except (TypeError, ValueError):
        raise ValueError(
            f"compress: redshift must be a number or a pair (lowest, highest); got {redshift!r}."
        ) from None
    if not 0 <= lo <= hi <= 20:
        raise ValueError(f"compress: redshifts must lie between 0 and 20, the lower first; got {lo:g} and {hi:g}.")
    own = float(galaxy.redshift)
    z = jnp.asarray(own if lo <= own <= hi else lo, galaxy.redshift.dtype)
    full = dataclasses.replace(galaxy, filters=galaxy.filters if filters is None else filters, redshift=z)
    return (full, float(z), float(z)) if lo == hi else (full, lo, hi)


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


def _vmap(function: Any, model: Any, n: int = 50) -> Any:
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


def _weights(galaxy: Any) -> Any:
    return galaxy.weights().ravel()


def _screens(galaxy: Any) -> Any:
    return galaxy.dust.checked_screens(galaxy.ssp.wave, galaxy.ssp.lg_age)[1]


def _on_the_way(galaxy: Any) -> Any:
    return galaxy.on_the_way(galaxy.ssp.wave)


def _magnitudes(galaxy: Any) -> Any:
    return galaxy.magnitudes()


def _batched(model: Any) -> list[Any]:
    kinds = jax.tree.leaves(infos(model))
    return [x for kind, x in zip(kinds, jax.tree.leaves(model), strict=True) if isinstance(kind, Parameter)]


class _Examples:
    """Light and transmissions that nodes, rank and redshifts are fitted to and tested with."""

    def __init__(self, full: Any, lo: float, hi: float, depth: float | None, rng: np.random.Generator, bar: Any):
        bar.tell("examples of galaxies and dust")
        self.wave = np.asarray(full.ssp.wave, float)
        self.flux = np.asarray(full.ssp.flux, float).reshape(-1, self.wave.size)
        galaxies = draw(full, rng, _N_FIT + _N_TEST)
        z = jnp.asarray(np.expm1(rng.uniform(np.log1p(lo), np.log1p(hi), _N_FIT + _N_TEST)), full.redshift.dtype)
        galaxies = eqx.tree_at(lambda g: g.redshift, galaxies, z)
        weights = _vmap(_weights, galaxies)
        weights = weights[weights.sum(1) > 0]
        screens = _vmap(_screens, galaxies)
        laws = [
            _vmap(_screens, draw(dataclasses.replace(full, dust=law()), rng, _N_LAW))[:, 0]
            for law in (Calzetti00, Noll09, Salim18, PowerLawDust)
        ]
        fitted = [np.ones((1, self.wave.size)), *laws, screens[:_N_FIT].reshape(-1, self.wave.size)]
        self.n_fit = sum(map(len, fitted))
        self.transmission = np.maximum(np.concatenate([*fitted, screens[_N_FIT:].reshape(-1, self.wave.size)]), 1e-37)
        self.gas = np.ones((len(self.transmission), 1))
        if full.lines is not None and full.lines.transmission(full.ssp.wave) is not None:
            # whatever share of the ionising light gets through the gas
            left = np.clip(rng.uniform(-0.5, 1.5, (len(self.transmission), 1)), 0.0, 1.0)
            self.gas = np.where(self.wave < LYMAN_LIMIT, left, 1.0)
            self.transmission = np.maximum(self.transmission * self.gas, 1e-37)
        self.population = weights / weights.sum(1, keepdims=True)
        self.light = self.population @ self.flux
        #: pairs of light and test transmissions
        self.tested = rng.permutation(len(self.light))
        self.full = full
        self.dimmest = 1e-33 if depth is None else 10 ** (-0.4 * depth)
        self.rng = rng

    def on_the_way(self, redshifts: np.ndarray) -> np.ndarray:
        """The transmissions seen through what lies between the galaxy and us, each at one of the redshifts."""
        if self.full.igm is None and self.full.foreground is None:
            return self.transmission
        galaxies = draw(self.full, self.rng, len(self.transmission))
        z = jnp.asarray(self.rng.choice(redshifts, len(self.transmission)), self.full.redshift.dtype)
        left = _vmap(_on_the_way, eqx.tree_at(lambda g: g.redshift, galaxies, z))
        return np.maximum(self.transmission * left, 1e-37)


def _projection(full: Any, bands: Any = None) -> Any:
    """Projection of some bands and its derivative with respect to u = ln(1 + z), at a redshift: two arrays (band, wave)."""
    filters, wave, crowds = full.filters, full.ssp.wave, full.ssp.crowds
    if bands is not None and len(bands) < len(filters):
        chosen = [(filters.names[b], *filters.curves()[b]) for b in bands]
        filters = FilterSet.from_arrays(*zip(*chosen, strict=True))

    @jax.jit
    def both(u):
        return jax.jvp(lambda u: filters.projection(wave, jnp.expm1(u), crowds), (u,), (jnp.ones_like(u),))

    return lambda u: tuple(np.asarray(x, float) for x in both(jnp.asarray(u, wave.dtype)))


def _nodes(
    name: str, seen: np.ndarray, transmission: np.ndarray, examples: _Examples, tol: float, guess: int = 1
) -> Any:
    """The wavelengths that a band sees by its projections `seen` (redshift, wave), its nodes among them (`guess`: about so
    many), and its functions phi."""
    visible = (seen > 0).any(0) & (examples.light > 0).any(0)
    if not visible.any():
        return np.array([0]), np.array([0]), np.ones((1, 1))
    j = np.flatnonzero(visible)
    light = examples.light[examples.tested][:, j]
    light = light[(light * seen[:, j].mean(0)).sum(1) > 0]
    if not len(light):
        return j, np.array([0]), np.ones((j.size, 1))
    n_test = min(len(light), len(transmission) - examples.n_fit)
    part = transmission[: examples.n_fit + n_test, j]
    try:
        nodes, phi = fit(seen[:, j], light, part, examples.n_fit, tol * _SHARES["nodes"], examples.dimmest, guess)
    except ValueError as error:
        raise ValueError(
            f"compress: the tolerance of {tol * MMAG:g} mmag cannot be met in {name}: {error}. Give a larger tol."
        ) from None
    return j, nodes, phi


def _energy(full: Any, examples: _Examples, tol: float) -> EnergySSP | None:
    """Nodes for what dust absorbs of the light of all wavelengths."""
    if full.dust_emission is None:
        return None
    width = np.asarray(widths_in_hertz(jnp.asarray(examples.wave)), float)
    light = examples.light[examples.tested]
    absorbed = examples.gas - np.minimum(examples.transmission, examples.gas)
    # of what hardly absorbs, the nodes need not know the share of each wavelength
    some = absorbed @ (width * light.mean(0)) > 1e-3 * (width @ light.mean(0))
    n_fit = int(some[: examples.n_fit].sum())
    absorbed = absorbed[some][: n_fit + len(light)]
    light = light[: len(absorbed) - n_fit]
    nodes, phi = fit(width[None], light, absorbed, n_fit, tol * _SHARES["nodes"], 1e-3)
    flux = examples.flux @ (width[:, None] * phi)
    shape = (full.ssp.lgmet.size, full.ssp.lg_age.size, -1)
    return EnergySSP(wave=examples.wave[nodes], lg_age=full.ssp.lg_age, lgmet=full.ssp.lgmet, flux=flux.reshape(shape))


def _one_redshift(
    full: Any, lo: float, hi: float, examples: _Examples, tols: np.ndarray, bar: Any, kept: dict[Any, Any]
) -> Any:
    bar.tell("nodes")
    u = np.log1p(lo)
    value, slope = _projection(full)(u)
    bands = full.filters.names
    medium = examples.on_the_way(np.array([lo]))
    found = [
        _nodes(name, value[None, b], medium, examples, tol)
        for b, (name, tol) in enumerate(zip(bands, tols, strict=True))
    ]
    columns = [
        np.concatenate([examples.flux[:, j] @ (p[b, j][:, None] * phi) for b, (j, _, phi) in enumerate(found)], 1)
        for p in (value, slope)
    ]
    shape = (full.ssp.lgmet.size, full.ssp.lg_age.size, -1)
    fields = {
        "wave": np.concatenate([examples.wave[j[n]] for j, n, _ in found]),
        "flux": columns[0].reshape(shape),
        "slope": (columns[1] / (1.0 + lo)).reshape(shape),
        "sizes": tuple(len(n) for _, n, _ in found),
        "order": tuple(range(len(found))),
    }
    return lambda **rest: BandSSP(
        lg_age=full.ssp.lg_age, lgmet=full.ssp.lgmet, digest=full.filters.digest(), **fields, **rest
    )


def _table(
    full: Any, lo: float, hi: float, examples: _Examples, tols: np.ndarray, bar: Any, kept: dict[Any, Any]
) -> Any:
    first, last = np.log1p(lo), np.log1p(hi)
    bands = full.filters.names
    widest = _SEGMENT if len(bands) <= _FEW_BANDS else _WIDE_SEGMENT
    n_segments = max(1, int(np.ceil((last - first) / widest)))
    width = (last - first) / n_segments
    bar.tell("steps in redshift")
    groups = _grouped(_steps(full, first, last, widest, width, examples, tols * _SHARES["steps"]), widest)
    order = [b for _, members in groups for b in members]
    projections = [_projection(full, members) for _, members in groups]

    segments, guess = [], [1] * len(bands)
    for s in bar.over(range(n_segments), "tables"):
        medium = examples.on_the_way(np.expm1(np.linspace(first + s * width, first + (s + 1) * width, 33)))
        segment = {}
        for (steps, members), project in zip(groups, projections, strict=True):
            keys = {b: (s, steps, b, float(tols[b])) for b in members}
            if not all(key in kept for key in keys.values()):
                rows = [project(first + s * width + width * i / steps) for i in range(steps + 1)]
                some = np.stack([rows[i][0] for i in sorted({0, steps // 4, steps // 2, 3 * steps // 4, steps})])
            for i, (b, key) in enumerate(keys.items()):
                if key not in kept:
                    nodes = _nodes(bands[b], some[:, i], medium, examples, tols[b], guess[b])
                    kept[key] = _factors(i, nodes, rows, width / steps, examples, tols[b])
                    guess[b] = len(nodes[1])
                segment[b] = kept[key]
        segments.append([segment[b] for b in order])
    ranks = [max(segment[i][1].shape[1] for segment in segments) for i in range(len(bands))]
    sizes = [max(segment[i][0].size for segment in segments) for i in range(len(bands))]
    ends = np.cumsum([len(members) for _, members in groups])
    fields = {
        "wave": _stacked(segments, lambda wave, basis, table, k, m: _padded(wave, (m,), "edge"), ranks, sizes),
        "basis": _stacked(segments, lambda wave, basis, table, k, m: _padded(basis, (len(basis), k)), ranks, sizes),
        "table": tuple(
            _table_of(
                [segment[end - len(members) : end] for segment in segments],
                ranks[end - len(members) : end],
                sizes[end - len(members) : end],
            )
            for (_, members), end in zip(groups, ends, strict=True)
        ),
        "origin": float(first),
        "width": float(width),
        "groups": tuple(len(members) for _, members in groups),
        "order": tuple(order),
        "ranks": tuple(ranks),
        "sizes": tuple(sizes),
    }
    return lambda **rest: BandTable(
        lg_age=full.ssp.lg_age, lgmet=full.ssp.lgmet, digest=full.filters.digest(), **fields, **rest
    )


def _table_of(segments: Any, ranks: Any, sizes: Any) -> Any:
    """The table of a group of bands (step of all segments, entry)."""
    rows = _stacked(segments, lambda wave, basis, table, k, m: _both_ends(table, k, m), ranks, sizes)
    return jnp.asarray(rows.reshape(-1, rows.shape[-1]), float)


def _stacked(segments: Any, make: Any, ranks: Any, sizes: Any) -> np.ndarray:
    """What is made of each band in each segment: bands side by side, segments on top of each other."""
    rows = []
    for segment in segments:
        rows.append(
            np.concatenate([make(*part, k, m) for part, k, m in zip(segment, ranks, sizes, strict=True)], axis=-1)
        )
    return np.stack(rows)


def _steps(
    full: Any, first: float, last: float, widest: float, width: float, examples: _Examples, tols: np.ndarray
) -> np.ndarray:
    """Steps of a segment that each band needs for cubic interpolation in redshift, by its error midway between two."""
    n = min(_N_TEST, len(examples.light))
    undimmed = examples.light[examples.tested[:n]]
    dusty = undimmed * examples.transmission[-n:]
    tried = np.random.default_rng(7).uniform(first, last - width, 24)  # the same in every pass
    red_ends = _red_ends(full.filters)
    needed, left = np.zeros(len(tols), int), np.arange(len(tols))
    for of_wide in _STEPS:
        needed[left] = max(1, round(of_wide * widest / _WIDE_SEGMENT))
        step, project = width / needed[left[0]], _projection(full, left)
        errors = np.zeros(len(left))
        for u in tried:
            (a, da), (b, db) = project(u), project(u + step)
            middle, exact = (a + b) / 2 + (da - db) * step / 8, project(u + step / 2)[0]
            least = (undimmed @ exact.T) * examples.dimmest
            off = _off(dusty @ middle.T, dusty @ exact.T, least).max(0, initial=0.0)
            errors = np.maximum(errors, np.where(red_ends[left] > LYMAN_LIMIT * np.exp(u), off, 0.0))
        left = left[errors >= tols[left]]
        if not len(left):
            break
    return needed


def _grouped(needed: np.ndarray, widest: float) -> list[tuple[int, list[int]]]:
    """Steps, and the bands that share them: one group for few bands, or two."""
    many = needed > _MANY_STEPS * widest / _WIDE_SEGMENT
    if len(needed) <= _FEW_BANDS or many.all() or not many.any():
        return [(int(needed.max()), list(range(len(needed))))]
    return [(int(needed[of].max()), [int(b) for b in np.flatnonzero(of)]) for of in (~many, many)]


def _factors(
    b: int, fitted: Any, rows: list[Any], step: float, examples: _Examples, tol: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of a band in a segment: wavelengths of its nodes, basis (star, K), and table (K, redshift, value or slope, node).

    Every population counts by its share of its own light in the band, every node by what it typically carries: so neither
    the ultraviolet of old stars nor a leak of a filter is lost in the factorisation.
    """
    j, nodes, phi = fitted
    flux = examples.flux[:, j]
    seen = np.stack([f * p[b, j] for row in rows for p, f in zip(row, (1.0, step), strict=True)])
    light = flux @ (seen.T[:, :, None] * phi[:, None, :]).reshape(j.size, -1)
    light = light.reshape(len(flux), len(rows), 2, -1)  # (star, redshift, value or slope, node)
    stars, shape = len(light), light.shape[1:]
    norm = np.abs(light[:, :, 0].sum(-1)).mean(1)
    norm = np.maximum(norm, 1e-30 * max(norm.max(), 1e-300))[:, None]
    x = light.reshape(stars, -1) / norm
    scale = np.maximum(np.abs(x).mean(0), 1e-9 * np.abs(x).max())
    x = x / scale
    u, s, v = leading(x, _MOST_FACTORS)
    n = min(_N_TEST, len(examples.light))
    through = examples.transmission[-n:][:, j[nodes]]
    weights = examples.population[examples.tested[:n]]
    exact = ((weights @ light[:, :, 0].reshape(stars, -1)).reshape(n, shape[0], -1) * through[:, None]).sum(-1)
    basis, table = norm * u, (s[:, None] * v) * scale
    least = (weights @ light[:, :, 0].sum(-1)) * examples.dimmest
    factors = weights @ basis
    for k in range(1, len(s) + 1):
        found = (factors[:, :k] @ table[:k]).reshape(n, *shape)[:, :, 0]
        found = (found * through[:, None]).sum(-1)
        if _off(found, exact, least).max(initial=0.0) < tol * _SHARES["rank"]:
            break
    dtype = examples.full.redshift.dtype
    return examples.wave[j[nodes]], basis[:, :k].astype(dtype), table[:k].reshape(k, *shape).astype(dtype)


def _both_ends(table: np.ndarray, k: int, m: int) -> np.ndarray:
    """Both ends of every step: (step, K x 4 x node), with zeros for what other segments need more of."""
    both = np.concatenate([table[:, :-1], table[:, 1:]], 2).transpose(1, 0, 2, 3)
    return _padded(both, (len(both), k, 4, m)).reshape(len(both), -1)


def _padded(x: np.ndarray, shape: tuple[int, ...], mode: Any = "constant") -> np.ndarray:
    return np.pad(x, [(0, m - n) for n, m in zip(x.shape, shape, strict=True)], mode=mode)


def _red_ends(filters: FilterSet) -> np.ndarray:
    """Wavelength below which 99.9 % of each band's weight lies."""
    ends = []
    for wave, transmission in filters.curves():
        fine = np.linspace(float(wave[0]), float(wave[-1]), 4001)
        collected = np.cumsum(np.interp(fine, wave, transmission) / fine)
        ends.append(fine[np.searchsorted(collected, 0.999 * collected[-1])])
    return np.array(ends)


def _off(approximate: np.ndarray, exact: np.ndarray, least: np.ndarray) -> np.ndarray:
    """Errors relative to the exact light, or to the least that counts; 0 where there is none."""
    return np.where(least > 0, np.abs(approximate - exact) / np.maximum(np.maximum(exact, least), 1e-300), 0.0)


class _Validation:
    """Galaxies that take no part in the fit, with their exact magnitudes."""

    def __init__(self, full: Any, lo: float, hi: float, depth: float | None, n: int, seed: int):
        rng = np.random.default_rng(seed)
        z = np.expm1(rng.uniform(np.log1p(lo), np.log1p(hi), n)) if lo < hi else np.full(n, lo)
        z = jnp.asarray(np.clip(z, lo, hi), full.redshift.dtype)
        self.galaxies = eqx.tree_at(lambda g: g.redshift, draw(full, rng, n), z)
        self.exact = _vmap(_magnitudes, self.galaxies, 20)
        self.depth, self.clear = depth, None
        if depth is not None:
            self.clear = _vmap(_magnitudes, eqx.tree_at(lambda g: g.dust, self.galaxies, NoDust()), 20)
        z = np.asarray(z, float)
        self.blue = _red_ends(full.filters)[None, :] <= LYMAN_LIMIT * (1.0 + z)[:, None]
        self.dark = (self.exact > 80.0) & ~self.blue

    def errors(self, ssp: Any) -> np.ndarray:
        """Error in mmag (galaxy, band) with another SSP library; 0 for what is left out."""
        found = _vmap(_magnitudes, eqx.tree_at(lambda g: g.ssp, self.galaxies, ssp), 20)
        error = 1e3 * np.abs(found - self.exact)
        if self.clear is not None:
            ratio = 10 ** (-0.4 * (found - self.exact))
            error = MMAG * np.abs(ratio - 1.0) * np.minimum(1.0, 10 ** (-0.4 * (self.exact - self.clear - self.depth)))
        error = np.where(np.isfinite(error), error, np.inf)
        return np.where(self.blue | self.dark, 0.0, error)

    def excepted(self) -> str:
        """What is left out, in words."""
        blue, dark = f"{self.blue.mean():.1%}", f"{self.dark.mean():.1%}"
        text = f"{blue} blueward of the Lyman limit and {dark} without light (above 80 mag) left out"
        if self.depth is not None:
            text += f"; of bands that dust dims by more than {self.depth:g} mag, errors relative to the light at {self.depth:g} mag"
        return text


def _certify(
    full: Any, make: Any, validation: _Validation, lo: float, hi: float, tol: float, started: float
) -> tuple[Any, Certificate]:
    """The compressed galaxy, and its errors."""
    draft = {"p99_mmag": np.inf, "worst_mmag": np.inf, "median_mmag": np.inf, "worst_of_band": (), "excepted": ""}
    fixed = {
        "bands": full.filters.names,
        "redshift": (lo, hi),
        "tol_mmag": 1e3 * tol,
        "n_galaxies": len(validation.exact),
        "model": ", ".join(
            f"{name}={type(part).__name__}" for name, part in vars(full).items() if isinstance(part, AbstractModel)
        ),
        "dtype": full.redshift.dtype.name,
    }
    ssp = make(certificate=Certificate(nodes=(), rank=0, rows=1, megabytes=0.0, seconds=0.0, **fixed, **draft))
    compact = dataclasses.replace(full, ssp=ssp)
    error = validation.errors(ssp)
    counted = error[~(validation.blue | validation.dark)]
    if not counted.size:
        counted = np.zeros(1)
    arrays = [ssp.wave, *([ssp.flux, ssp.slope] if lo == hi else [ssp.basis, *ssp.table])]
    certificate = Certificate(
        nodes=tuple(int(n) for n in np.array(ssp.sizes)[np.argsort(ssp.order)]),
        rank=0 if lo == hi else max(ssp.ranks),
        rows=1 if lo == hi else max(len(table) for table in ssp.table) + 1,
        worst_mmag=float(counted.max()),
        p99_mmag=float(np.quantile(counted, 0.99)),
        median_mmag=float(np.median(counted)),
        worst_of_band=tuple(float(e) for e in error.max(0)),
        excepted=validation.excepted(),
        megabytes=sum(a.nbytes for a in arrays) / 1e6,
        seconds=time.perf_counter() - started,
        **fixed,
    )
    return dataclasses.replace(compact, ssp=make(certificate=certificate)), certificate
