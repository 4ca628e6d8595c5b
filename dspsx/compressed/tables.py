"""The table of bands at any redshift of a range."""

from functools import partial
from typing import Any

import jax.numpy as jnp
import numpy as np

from dspsx._numerics import total
from dspsx.compressed.band_nodes import SHARES, band_nodes, energy_nodes, gas_ends, gas_fields, projection
from dspsx.compressed.bands import BandTable, EnergySSP
from dspsx.compressed.contraction import hermite, hermite_slope
from dspsx.compressed.errors import LEAST_SLOPE, MMAG, OF_SLOPE, off, red_ends
from dspsx.compressed.examples import N_TEST, Examples
from dspsx.compressed.factors import MOST_FACTORS, BandLight, common_factors, own_factors
from dspsx.nebular import LYMAN_LIMIT

#: Width in ln(1 + z) of a segment of a table, in which all redshifts share their nodes: for so many bands, and for more.
#: Narrow ones need fewer factors, and more memory in all.
_SEGMENT, _FEW_BANDS, _WIDE_SEGMENT = 0.025, 12, 0.05
#: Steps of a wide segment that are tried; of many bands, those that need more than many share them with their like alone; steps
#: that each number is tried with.
_STEPS, _MANY_STEPS, _N_TRIED = (4, 8, 16, 32, 64, 128), 32, 32
#: Tolerance in mmag above which derivatives by redshift may be off by more, in proportion.
_TOL_OF_SLOPE = 1.0
#: Neighbouring bands that share factors, at most, with few steps and with many: more of them need fewer factors in all, and a
#: larger table.
_TOGETHER = 6, 2
#: Factors come in multiples of this.
_WIDTH = 4


def table(full: Any, lo: float, hi: float, examples: Examples, tols: np.ndarray, bar: Any, kept: dict[Any, Any]) -> Any:
    first, last = np.log1p(lo), np.log1p(hi)
    bands = full.filters.names
    few = len(bands) <= _FEW_BANDS
    widest, of_rank = (_SEGMENT, SHARES["rank"]) if few else (_WIDE_SEGMENT, SHARES["rank of many"])
    n_segments = max(1, int(np.ceil((last - first) / widest)))
    width = (last - first) / n_segments
    bar.tell("steps in redshift")
    steps = _steps(full, first, last, width, examples, tols)
    groups = _grouped(steps, widest, np.array([np.average(w, weights=t) for w, t in full.filters.curves()]))
    projections = [projection(full, members) for _, members in groups]
    ends = red_ends(full.filters)

    segments, guess = [], [1] * len(bands)
    for s in bar.over(range(n_segments), "tables"):
        here = examples.near(np.expm1(first + (s + 0.5) * width))
        medium = examples.on_the_way(np.expm1(np.linspace(first + s * width, first + (s + 1) * width, 33)))
        segment = []
        for (steps, members), project in zip(groups, projections, strict=True):
            keys = {b: (s, steps, b, float(tols[b])) for b in members}
            if not all(key in kept for key in keys.values()):
                u = first + s * width + width * np.arange(steps + 1) / steps
                rows, some = [project(x) for x in u], sorted({0, steps // 4, steps // 2, 3 * steps // 4, steps})
                seen = np.stack([rows[i][0] for i in some])
            for i, (b, key) in enumerate(keys.items()):
                if key not in kept:
                    least = examples.least_transmission(ends[b], u)
                    nodes = band_nodes(bands[b], seen[:, i], *medium, examples, tols[b], least[some], guess[b])
                    of_band = [[p[i] for p in row] for row in rows]
                    of_tests, of_last = (tols[b] * share for share in of_rank)
                    kept[key] = own_factors(nodes, of_band, here, of_tests, of_last, least, width / steps)
                    guess[b] = len(nodes[1])
            together = tuple(keys.values())
            if together not in kept:
                kept[together] = common_factors([kept[key] for key in together], here)
            segment.append((*kept[together], [kept[key] for key in together]))
        segments.append(segment)
    each_group = range(len(groups))
    needed = [max(segment[g][0] for segment in segments) for g in each_group]
    ranks = [min(MOST_FACTORS, -(-n // _WIDTH) * _WIDTH) for n in needed]
    sizes = [
        [max(segment[g][3][i].wave.size for segment in segments) for i in range(len(groups[g][1]))] for g in each_group
    ]
    basis = np.stack(
        [np.concatenate([_padded(segment[g][1], ranks[g]) for g in each_group], axis=1) for segment in segments]
    )
    n = examples.n_stars
    fields = {
        "wave": np.stack(
            [np.concatenate([_waves(segment[g][3], sizes[g]) for g in each_group]) for segment in segments]
        ),
        "basis": basis[:, :n].reshape(n_segments, full.ssp.lgmet.size, full.ssp.lg_age.size, -1).swapaxes(1, 2),
        **gas_fields(full, basis[:, n:]),
        "ends": gas_ends(full, lo, hi),
        "table": tuple(
            jnp.asarray(
                np.concatenate([_at_redshifts(segment[g][2], ranks[g], sizes[g]) for segment in segments]), float
            )
            for g in each_group
        ),
        "origin": float(first),
        "width": float(width),
        "groups": tuple(len(members) for _, members in groups),
        "order": tuple(b for _, members in groups for b in members),
        "sizes": tuple(n for group in sizes for n in group),
        "energy": _energy(full, examples, tols.min()),
    }
    return lambda **rest: BandTable(
        lg_age=full.ssp.lg_age, lgmet=full.ssp.lgmet, digest=full.filters.digest(), **fields, **rest
    )


def _energy(full: Any, examples: Examples, tol: float) -> EnergySSP | None:
    if full.dust_emission is None:
        return None
    (_, nodes, phi), width, _ = energy_nodes(full, examples, tol)
    collected = examples.flux @ (width[:, None] * phi)
    shape = (full.ssp.lgmet.size, full.ssp.lg_age.size, -1)
    return EnergySSP(
        wave=examples.wave[nodes],
        lg_age=full.ssp.lg_age,
        lgmet=full.ssp.lgmet,
        flux=collected[: examples.n_stars].reshape(shape),
        **gas_fields(full, collected[examples.n_stars :]),
    )


def _waves(bands: list[BandLight], sizes: list[int]) -> np.ndarray:
    """Wavelengths of the nodes of some bands, the last of each again up to its size."""
    return np.concatenate([np.pad(b.wave, (0, n - b.wave.size), "edge") for b, n in zip(bands, sizes, strict=True)])


def _padded(basis: np.ndarray, k: int) -> np.ndarray:
    basis = basis[:, :k]
    return np.pad(basis, [(0, 0), (0, k - basis.shape[1])])


def _at_redshifts(tables: list[np.ndarray], k: int, sizes: list[int]) -> np.ndarray:
    """What k factors give to the values, and after it to the derivatives: (redshift, 2 k, node), from tables of bands (k, redshift,
    value or slope, node)."""
    padded = [
        np.pad(table[:k], [(0, k - len(table[:k])), (0, 0), (0, 0), (0, n - table.shape[3])])
        for table, n in zip(tables, sizes, strict=True)
    ]
    whole = np.concatenate(padded, axis=-1).transpose(1, 2, 0, 3)
    return whole.reshape(len(whole), 2 * k, -1)


def _steps(full: Any, first: float, last: float, width: float, examples: Examples, tols: np.ndarray) -> np.ndarray:
    """Steps of a segment that each band needs for cubic interpolation in redshift, by its errors where they are largest: of the
    light midway between two, of its derivative at a quarter of the way."""
    n = min(N_TEST, len(examples.light))
    undimmed = examples.light[examples.tested[:n]]
    dusty = undimmed * examples.transmission[examples.n_fit :][:n]
    # places in the range, the same in every pass
    fractions = (np.arange(_N_TRIED) + np.random.default_rng(7).random(_N_TRIED)) / _N_TRIED
    ends = red_ends(full.filters)
    allowed = tols * SHARES["steps"]
    allowed_slope = OF_SLOPE * max(1.0, tols.max() * MMAG / _TOL_OF_SLOPE)
    needed, left = np.zeros(len(tols), int), np.arange(len(tols))
    for of_wide in _STEPS:
        # the segment of a narrow range may be narrow
        needed[left] = 2 ** max(0, int(np.ceil(np.log2(of_wide * width / _WIDE_SEGMENT))))
        step, project = width / needed[left[0]], projection(full, left)
        excess = np.zeros(len(left))
        for u in first + fractions * (last - first - step):
            start, middle, quarter, end = (project(u + part * step) for part in (0.0, 0.5, 0.25, 1.0))
            ends_of_step = start[0], start[1] * step, end[0], end[1] * step
            between = partial(_between, ends_of_step)
            least = (undimmed @ middle[0].T) * examples.dimmest
            of_light = off(dusty @ between(hermite(0.5)).T, dusty @ middle[0].T, least) / allowed[left]
            found = between(hermite(0.25)), between(hermite_slope(0.25)) / step
            found, exact = (_slopes(dusty, least, *x) / np.exp(u + step / 4) for x in (found, quarter))
            of_slope = np.abs(found - exact) / (allowed_slope * np.maximum(np.abs(exact), LEAST_SLOPE))
            worst = np.maximum(of_light, np.where(least > 0, of_slope, 0.0)).max(0, initial=0.0)
            excess = np.maximum(excess, np.where(ends[left] > LYMAN_LIMIT * np.exp(u), worst, 0.0))
        left = left[excess >= 1.0]
        if not len(left):
            break
    return needed


def _between(ends_of_step: Any, shares: Any) -> Any:
    return total(share * x for share, x in zip(shares, ends_of_step, strict=True))


def _slopes(light: np.ndarray, least: np.ndarray, value: np.ndarray, slope: np.ndarray) -> np.ndarray:
    """Derivatives (galaxy, band) of magnitudes with respect to u = ln(1 + z), of projections (band, wave) and their derivatives."""
    return MMAG / 1e3 * (light @ slope.T) / np.maximum(np.maximum(light @ value.T, least), 1e-300)


def _grouped(needed: np.ndarray, widest: float, wave: np.ndarray) -> list[tuple[int, list[int]]]:
    """Steps, and neighbouring bands that share them and their factors; bands that need many steps are with their like."""
    few = needed <= _MANY_STEPS * widest / _WIDE_SEGMENT
    if len(needed) <= _FEW_BANDS:
        few[:] = True
    steps = np.where(few, needed[few].max(initial=0), needed)
    groups = []
    for n in np.unique(steps):
        members = np.flatnonzero(steps == n)
        members, together = members[np.argsort(wave[members], kind="stable")], _TOGETHER[not few[members[0]]]
        groups += [(int(n), part.tolist()) for part in np.array_split(members, -(-members.size // together))]
    return groups
