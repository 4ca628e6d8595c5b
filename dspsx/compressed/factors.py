"""Factors: the few numbers that a galaxy's stars are reduced to in a segment of redshift, for some bands together."""

import dataclasses
from typing import Any

import numpy as np

from dspsx.compressed.errors import off
from dspsx.compressed.examples import N_TEST, Examples
from dspsx.compressed.nodes import leading

#: Factors at most, of one band and of bands together.
_MOST_OWN, MOST_FACTORS = 128, 256
#: Share of the tolerance that a band's own factorisation may use up, from which the common one is made.
_OWN = 0.2
#: Rounds in which the bands that are worst approximated are given more weight.
_ROUNDS = 6


@dataclasses.dataclass(frozen=True)
class BandLight:
    """Light of a band in a segment at its nodes, stars (star, k) times table (k, redshift, value or slope, node); with it the
    wavelengths of the nodes, each population's own light `norm` (star,), and what the error of an approximation is found by:
    dust at the nodes `through` (galaxy, node), the `exact` light after it and the `least` that counts (galaxy, redshift)."""

    wave: np.ndarray
    stars: np.ndarray
    table: np.ndarray
    norm: np.ndarray
    through: np.ndarray
    exact: np.ndarray
    least: np.ndarray
    tol: float

    def excess(self, factors: np.ndarray, table: np.ndarray) -> float:
        """The largest error of galaxies with factors (galaxy, k), in units of the tolerance."""
        values = table[:, :, 0]
        found = (factors @ values.reshape(len(values), -1)).reshape(len(factors), *values.shape[1:])
        found = (found * self.through[:, None]).sum(-1)
        return off(found, self.exact, self.least).max(initial=0.0) / self.tol


def tested(examples: Examples) -> np.ndarray:
    """Stars (galaxy, star) of the galaxies that errors are found with."""
    return examples.population[examples.tested[: min(N_TEST, len(examples.light))]]


def own_factors(
    fitted: Any,
    rows: list[Any],
    examples: Examples,
    tol: float,
    dimmest: Any,
    step: float = 1.0,
    transmission: np.ndarray | None = None,
) -> BandLight:
    """Of a band, from its nodes and its projection's values (wave,), and maybe slopes, at each redshift, of which `step` is the
    unit; `dimmest` (redshift,) as in `fit`; `transmission` (example, wave), if not that of the dust.

    Every population counts by its share of its own light in the band, every node by what it typically carries: so neither
    the ultraviolet of old stars nor a leak of a filter is lost in the factorisation.
    """
    j, nodes, phi = fitted
    flux = examples.flux[:, j]
    seen = np.stack([f * p[j] for row in rows for p, f in zip(row, (1.0, step), strict=False)])
    light = flux @ (seen.T[:, :, None] * phi[:, None, :]).reshape(j.size, -1)
    light = light.reshape(len(flux), len(rows), len(rows[0]), -1)  # (star, redshift, value or slope, node)
    shape = light.shape[1:]
    galaxies = tested(examples)
    before = (galaxies @ light[:, :, 0].reshape(len(flux), -1)).reshape(len(galaxies), *shape[::2])
    norm = np.abs(light[:, :, 0].sum(-1)).mean(1)
    norm = norm if norm.any() else np.ones(len(norm))  # a band may be in the dark
    # of the gas there is no galaxy alone: its spectra count by the largest share that they have of a galaxy's light
    parts, whole = np.abs(galaxies[:, examples.n_stars :]), before.sum(-1).mean(1, keepdims=True)
    share = np.divide(parts, whole, out=np.zeros_like(parts), where=whole > 0).max(0, initial=0.0)
    norm[examples.n_stars :] = 1.0 / np.where(share > 0, share, 1.0 / norm.max())
    norm = np.maximum(norm, 1e-30 * norm.max())
    x = light.reshape(len(flux), -1) / norm[:, None]
    scale = np.maximum(np.abs(x).mean(0), max(1e-9 * np.abs(x).max(), 1e-300))
    u, s, v = leading(x / scale, _MOST_OWN)
    stars, table = norm[:, None] * (u * s), (v * scale).reshape(-1, *shape)
    transmission = examples.transmission if transmission is None else transmission
    through = transmission[-len(galaxies) :][:, j[nodes]]
    exact, least = (before * through[:, None]).sum(-1), before.sum(-1) * dimmest
    band = BandLight(examples.wave[j[nodes]], stars, table, norm, through, exact, least, tol)
    factors = galaxies @ stars
    k = _fewest(lambda k: band.excess(factors[:, :k], table[:k]) < _OWN, len(s))
    return dataclasses.replace(band, stars=stars[:, :k], table=table[:k])


def common_factors(bands: list[BandLight], examples: Examples) -> tuple[int, np.ndarray, list[np.ndarray]]:
    """How many factors do for some bands together; the basis (star, K) of these and more; and the table of each band on it, all
    in the galaxy's dtype.

    Bands that see much the same light need not many more factors together than one alone. Every population counts by its
    typical share of its own light; the balance between bands is found by trying.
    """
    norm = np.exp(np.mean([np.log(np.maximum(b.norm, 1e-8 * b.norm.max())) for b in bands], axis=0))[:, None]
    columns = [b.stars / norm for b in bands]
    weight = np.array([1.0 / max(np.linalg.norm(c), 1e-300) for c in columns])
    galaxies = tested(examples) * norm.T
    best = None
    for _ in range(_ROUNDS):
        stacked = np.concatenate([c * w for c, w in zip(columns, weight, strict=True)], axis=1)
        u = np.linalg.svd(stacked, full_matrices=False)[0][:, :MOST_FACTORS]
        factors, tables = galaxies @ u, [np.tensordot(u.T @ c, b.table, 1) for c, b in zip(columns, bands, strict=True)]

        def excess(k, factors=factors, tables=tables):
            return np.array([b.excess(factors[:, :k], t[:k]) for b, t in zip(bands, tables, strict=True)])

        k = _fewest(lambda k: excess(k).max() < 1.0, u.shape[1])
        if best is None or k < best[0]:
            best = k, norm * u, tables
        weight = weight * np.clip(excess(max(1, k - 1)), 0.3, 4.0)
    assert best is not None
    k, basis, tables = best
    dtype = examples.full.redshift.dtype
    return k, basis.astype(dtype), [table.astype(dtype) for table in tables]


def _fewest(enough: Any, most: int) -> int:
    """The least number that is enough, if any is; `most` otherwise. What is enough stays so, nearly."""
    lo, hi = 0, most
    while hi - lo > 1:
        middle = (lo + hi) // 2
        lo, hi = (lo, middle) if enough(middle) else (middle, hi)
    return hi
