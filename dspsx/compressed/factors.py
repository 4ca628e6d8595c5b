"""Factors: the few numbers that a galaxy's stars are reduced to in a segment of redshift, for some bands together."""

import dataclasses
from typing import Any

import numpy as np

from dspsx.compressed.errors import off
from dspsx.compressed.examples import Examples, at_waves
from dspsx.compressed.nodes import leading

#: Factors at most, of one band and of bands together.
_MOST_OWN, MOST_FACTORS = 128, 256
#: Shares of what is allowed that a band's own factorisation may use up, from which the common one is made: in the tests, and in the
#: last one.
_OWN, _OWN_LAST = 0.2, 0.4
#: Rounds in which the bands that are worst approximated are given more weight.
_ROUNDS = 6


class _Sample:
    """What the error of an approximation is found by: light of galaxies `undimmed` (galaxy, redshift, node), dust at the nodes
    `through` (galaxy, node), and the transmission below which errors are relative to it, `dimmest` (redshift,)."""

    def __init__(self, undimmed: np.ndarray, through: np.ndarray, dimmest: Any):
        self.through = through[:, None]
        self.exact, self.least = (undimmed * self.through).sum(-1), undimmed.sum(-1) * dimmest

    def error(self, factors: np.ndarray, values: np.ndarray) -> float:
        """The largest error with factors (galaxy, k) of values (k, redshift, node)."""
        found = (factors @ values.reshape(len(values), -1)).reshape(len(factors), *values.shape[1:])
        return off((found * self.through).sum(-1), self.exact, self.least).max(initial=0.0)


@dataclasses.dataclass(frozen=True)
class BandLight:
    """Light of a band in a segment at its nodes, stars (star, k) times table (k, redshift, value or slope, node); with it the
    wavelengths of the nodes, each population's own light `norm` (star,), and what errors are found by: galaxies of the tests, and
    those of the last test at a few of the redshifts, `at`."""

    wave: np.ndarray
    stars: np.ndarray
    table: np.ndarray
    norm: np.ndarray
    some: _Sample
    tol: float
    more: _Sample
    tol_more: float
    at: list[int]

    def excess(self, factors: np.ndarray, table: np.ndarray) -> float:
        """The largest error in the tests, of galaxies with factors (galaxy, k), in units of what is allowed."""
        return self.some.error(factors, table[:, :, 0]) / self.tol

    def excess_of_more(self, factors: np.ndarray, table: np.ndarray) -> float:
        """The same in the last test."""
        return self.more.error(factors, table[:, self.at, 0]) / self.tol_more


def own_factors(
    fitted: Any,
    rows: list[Any],
    examples: Examples,
    tol: float,
    tol_more: float,
    dimmest: Any,
    step: float = 1.0,
    screens: tuple[np.ndarray, np.ndarray] | None = None,
) -> BandLight:
    """Of a band, from its nodes and its projection's values (wave,), and maybe slopes, at each redshift, of which `step` is the
    unit; `tol` is for the tests, `tol_more` for the last one; `dimmest` (redshift,) as in `fit`; `screens`, the transmissions of
    the examples and of those of the last test (example, wave), if not those of the dust.

    Every population counts by its share of its own light in the band, every node by what it typically carries: so neither
    the ultraviolet of old stars nor a leak of a filter is lost in the factorisation.
    """
    j, nodes, phi = fitted
    flux = at_waves(examples.flux, j)
    seen = np.stack([f * p[j] for row in rows for p, f in zip(row, (1.0, step), strict=False)])
    light = flux @ (seen.T[:, :, None] * phi[:, None, :]).reshape(j.size, -1)
    light = light.reshape(len(flux), len(rows), len(rows[0]), -1)  # (star, redshift, value or slope, node)
    shape = light.shape[1:]
    galaxies, more = examples.tests(), examples.more.population
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
    through, through_more = (examples.transmission, examples.more.transmission) if screens is None else screens
    tests = slice(examples.n_fit, examples.n_fit + len(galaxies))
    at = sorted({0, len(rows) // 2, len(rows) - 1})
    of_more = (more @ light[:, at, 0].reshape(len(flux), -1)).reshape(len(more), len(at), shape[-1])
    dimmest = np.broadcast_to(dimmest, len(rows))
    some = _Sample(before, through[tests, j[nodes]], dimmest)
    others = _Sample(of_more, through_more[:, j[nodes]].astype(float), dimmest[at])
    band = BandLight(examples.wave[j[nodes]], stars, table, norm, some, tol, others, tol_more, at)
    factors, factors_of_more = galaxies @ stars, more @ stars
    excess = lambda k: band.excess(factors[:, :k], table[:k])  # noqa: E731
    k = _fewest(lambda k: excess(k) < _OWN, len(s))
    last = lambda k: band.excess_of_more(factors_of_more[:, :k], table[:k])  # noqa: E731
    k = _fewest(lambda k: excess(k) < _OWN and last(k) < _OWN_LAST, len(s), k)
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
    galaxies = examples.tests() * norm.T
    best = None
    for _ in range(_ROUNDS):
        stacked = np.concatenate([c * w for c, w in zip(columns, weight, strict=True)], axis=1)
        u = np.linalg.svd(stacked, full_matrices=False)[0][:, :MOST_FACTORS]
        factors, tables = galaxies @ u, [np.tensordot(u.T @ c, b.table, 1) for c, b in zip(columns, bands, strict=True)]

        def excess(k, factors=factors, tables=tables):
            return np.array([b.excess(factors[:, :k], t[:k]) for b, t in zip(bands, tables, strict=True)])

        k = _fewest(lambda k: excess(k).max() < 1.0, u.shape[1])
        if best is None or k < best[0]:
            best = k, norm * u, tables, excess
        weight = weight * np.clip(excess(max(1, k - 1)), 0.3, 4.0)
    assert best is not None
    k, basis, tables, excess = best
    factors = examples.more.population @ basis
    last = lambda k: max(b.excess_of_more(factors[:, :k], t[:k]) for b, t in zip(bands, tables, strict=True))  # noqa: E731
    k = _fewest(lambda k: excess(k).max() < 1.0 and last(k) < 1.0, basis.shape[1], k)
    dtype = examples.full.redshift.dtype
    return k, basis.astype(dtype), [table.astype(dtype) for table in tables]


def _fewest(enough: Any, most: int, least: int = 1) -> int:
    """The least number from `least` on that is enough, if any is; `most` otherwise. What is enough stays so, nearly."""
    if enough(least):
        return least
    lo, hi = least, most
    while hi - lo > 1:
        middle = (lo + hi) // 2
        lo, hi = (lo, middle) if enough(middle) else (middle, hi)
    return hi
