"""The table of bands at any redshift of a range."""

from typing import Any

import jax.numpy as jnp
import numpy as np

from dspsx.compressed.band_nodes import SHARES, band_nodes, projection
from dspsx.compressed.bands import BandTable
from dspsx.compressed.errors import off, red_ends
from dspsx.compressed.examples import N_TEST, Examples
from dspsx.compressed.nodes import leading
from dspsx.nebular import LYMAN_LIMIT

#: Width in ln(1 + z) of a segment of a table, in which all redshifts share their nodes: for so many bands, and for more.
#: Narrow ones need fewer factors, and more memory in all.
_SEGMENT, _FEW_BANDS, _WIDE_SEGMENT = 0.025, 12, 0.05
#: Steps of a wide segment that are tried; a band that needs more than many has them for itself, if there are other bands.
_STEPS, _MANY_STEPS = (4, 8, 16, 32, 64, 128), 32
_MOST_FACTORS = 128


def table(full: Any, lo: float, hi: float, examples: Examples, tols: np.ndarray, bar: Any, kept: dict[Any, Any]) -> Any:
    first, last = np.log1p(lo), np.log1p(hi)
    bands = full.filters.names
    widest = _SEGMENT if len(bands) <= _FEW_BANDS else _WIDE_SEGMENT
    n_segments = max(1, int(np.ceil((last - first) / widest)))
    width = (last - first) / n_segments
    bar.tell("steps in redshift")
    groups = _grouped(_steps(full, first, last, widest, width, examples, tols * SHARES["steps"]), widest)
    order = [b for _, members in groups for b in members]
    projections = [projection(full, members) for _, members in groups]

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
                    nodes = band_nodes(bands[b], some[:, i], medium, examples, tols[b], guess[b])
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
    full: Any, first: float, last: float, widest: float, width: float, examples: Examples, tols: np.ndarray
) -> np.ndarray:
    """Steps of a segment that each band needs for cubic interpolation in redshift, by its error midway between two."""
    n = min(N_TEST, len(examples.light))
    undimmed = examples.light[examples.tested[:n]]
    dusty = undimmed * examples.transmission[-n:]
    tried = np.random.default_rng(7).uniform(first, last - width, 24)  # the same in every pass
    ends = red_ends(full.filters)
    needed, left = np.zeros(len(tols), int), np.arange(len(tols))
    for of_wide in _STEPS:
        needed[left] = max(1, round(of_wide * widest / _WIDE_SEGMENT))
        step, project = width / needed[left[0]], projection(full, left)
        errors = np.zeros(len(left))
        for u in tried:
            (a, da), (b, db) = project(u), project(u + step)
            middle, exact = (a + b) / 2 + (da - db) * step / 8, project(u + step / 2)[0]
            least = (undimmed @ exact.T) * examples.dimmest
            error = off(dusty @ middle.T, dusty @ exact.T, least).max(0, initial=0.0)
            errors = np.maximum(errors, np.where(ends[left] > LYMAN_LIMIT * np.exp(u), error, 0.0))
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
    b: int, fitted: Any, rows: list[Any], step: float, examples: Examples, tol: float
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
    n = min(N_TEST, len(examples.light))
    through = examples.transmission[-n:][:, j[nodes]]
    weights = examples.population[examples.tested[:n]]
    exact = ((weights @ light[:, :, 0].reshape(stars, -1)).reshape(n, shape[0], -1) * through[:, None]).sum(-1)
    basis, table = norm * u, (s[:, None] * v) * scale
    least = (weights @ light[:, :, 0].sum(-1)) * examples.dimmest
    factors = weights @ basis
    for k in range(1, len(s) + 1):
        found = (factors[:, :k] @ table[:k]).reshape(n, *shape)[:, :, 0]
        found = (found * through[:, None]).sum(-1)
        if off(found, exact, least).max(initial=0.0) < tol * SHARES["rank"]:
            break
    dtype = examples.full.redshift.dtype
    return examples.wave[j[nodes]], basis[:, :k].astype(dtype), table[:k].reshape(k, *shape).astype(dtype)


def _both_ends(table: np.ndarray, k: int, m: int) -> np.ndarray:
    """Both ends of every step: (step, K x 4 x node), with zeros for what other segments need more of."""
    both = np.concatenate([table[:, :-1], table[:, 1:]], 2).transpose(1, 0, 2, 3)
    return _padded(both, (len(both), k, 4, m)).reshape(len(both), -1)


def _padded(x: np.ndarray, shape: tuple[int, ...], mode: Any = "constant") -> np.ndarray:
    return np.pad(x, [(0, m - n) for n, m in zip(x.shape, shape, strict=True)], mode=mode)
