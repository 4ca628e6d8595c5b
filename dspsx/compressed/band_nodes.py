"""Nodes of bands, at one redshift, and of the light that dust absorbs."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from dspsx.compressed.bands import BandSSP
from dspsx.compressed.errors import MMAG, red_ends
from dspsx.compressed.examples import Examples, at_waves
from dspsx.compressed.factors import common_factors, own_factors
from dspsx.compressed.nodes import fit
from dspsx.filters import FilterSet
from dspsx.ssp import widths_in_hertz

#: Shares of the tolerance that nodes, rank and steps in redshift may each use up, nodes and rank in the tests and in the last one:
#: their worst cases do not coincide, and the certificate has the last word; but one of many bands is always nearly the worst.
SHARES = {"nodes": (0.5, 0.8), "rank": (1.25, 1.0), "rank of many": (0.8, 0.75), "steps": 0.25}
#: At one redshift factors are few, and some more for a smaller error cost little. They come in multiples of the other number.
ONE_RANK, _WIDTH = 0.25, 4
#: Share of all light that dust must absorb for its own share to count.
LEAST_ABSORBED = 1e-3


def one_redshift(
    full: Any, lo: float, hi: float, examples: Examples, tols: np.ndarray, bar: Any, kept: dict[Any, Any]
) -> Any:
    bar.tell("nodes")
    u = np.log1p(lo)
    value, slope, bend = projection(full, order=2)(u)
    # from u = ln(1 + z) to z
    rows = (value, slope / (1.0 + lo), (bend - slope) / (1.0 + lo) ** 2)
    bands = full.filters.names
    medium = examples.on_the_way(np.array([lo]))
    found = [
        band_nodes(name, value[None, b], *medium, examples, tol, examples.dimmest)
        for b, (name, tol) in enumerate(zip(bands, tols, strict=True))
    ]
    # the gas has few spectra, and needs no factors
    stars = examples.of_stars()
    ends = red_ends(full.filters)
    least = [examples.least_transmission(end, np.array([u])) for end in ends]
    lights = [
        own_factors(nodes, [value[None, b]], stars, tol * ONE_RANK, tol * ONE_RANK, least[b], screens=medium)
        for b, (nodes, tol) in enumerate(zip(found, tols, strict=True))
    ]
    series = [
        [at_waves(examples.flux, j) @ (p[b, j][:, None] * phi) for b, (j, _, phi) in enumerate(found)] for p in rows
    ]
    if full.dust_emission is not None:
        nodes, width, absorbed = energy_nodes(full, examples, tols.min())
        of_rank = tols.min() * ONE_RANK
        lights.append(own_factors(nodes, [width[None]], stars, of_rank, of_rank, LEAST_ABSORBED, screens=absorbed))
        absorbable = examples.flux @ (width[:, None] * nodes[2])  # the same at every redshift
        for of_bands, some in zip(series, (1.0, 0.0, 0.0), strict=True):
            of_bands.append(some * absorbable)
    k, basis, tables = common_factors(lights, stars)
    k = min(-(-k // _WIDTH) * _WIDTH, basis.shape[1])
    value, *derivatives = (np.concatenate(of_bands, axis=1) for of_bands in series)
    n = examples.n_stars
    of_stars = lambda x: x[:n].reshape(full.ssp.lgmet.size, full.ssp.lg_age.size, -1).swapaxes(0, 1)  # noqa: E731
    fields = {
        "wave": np.concatenate([light.wave for light in lights]),
        "basis": of_stars(basis[:, :k]),
        "table": np.concatenate([table[:k, 0, 0] for table in tables], axis=1),
        "slope": of_stars(derivatives[0]),
        "bend": of_stars(derivatives[1]),
        "sizes": tuple(len(nodes) for _, nodes, _ in found),
        "order": tuple(range(len(found))),
        **gas_fields(full, np.stack([x[n:] for x in (value, *derivatives)])),
        "ends": gas_ends(full, lo, hi),
    }
    return lambda **rest: BandSSP(
        lg_age=full.ssp.lg_age, lgmet=full.ssp.lgmet, digest=full.filters.digest(), **fields, **rest
    )


def gas_fields(full: Any, glow: np.ndarray) -> dict[str, Any]:
    """Fields of a library that knows the continuum of the gas, if there is any in `glow` (..., part, node or K)."""
    return {"glow": jnp.asarray(glow, float), "gas_class": type(full.lines).__name__} if glow.shape[-2] else {}


def gas_ends(full: Any, lo: float, hi: float) -> tuple[float, float] | None:
    """The ends of the spectrum, if a band reaches beyond them at a redshift of the range."""
    first, last = float(full.ssp.wave[0]), float(full.ssp.wave[-1])
    seen = [(float(wave[0]) / (1.0 + hi), float(wave[-1]) / (1.0 + lo)) for wave, _ in full.filters.curves()]
    return (first, last) if any(blue < first or red > last for blue, red in seen) else None


def band_nodes(
    name: str,
    seen: np.ndarray,
    transmission: np.ndarray,
    more: np.ndarray,
    examples: Examples,
    tol: float,
    dimmest: Any,
    guess: int = 1,
) -> Any:
    """The wavelengths that a band sees by its projections `seen` (redshift, wave), its nodes among them (`guess`: about so
    many), and its functions phi; `transmission` and `more` are those of `examples.on_the_way`, `dimmest` as in `fit`."""
    visible = (seen > 0).any(0) & (examples.light > 0).any(0)
    if not visible.any():
        return np.array([0]), np.array([0]), np.ones((1, 1))
    j = np.flatnonzero(visible)
    light = at_waves(examples.light, j)[examples.tested]
    light = light[light @ seen[:, j].mean(0) > 0]
    if not len(light):
        return j, np.array([0]), np.ones((j.size, 1))
    n_fit = examples.n_fit
    part = at_waves(transmission[: n_fit + len(light)], j)
    of_tests, of_last = (tol * share for share in SHARES["nodes"])
    try:
        nodes, phi = fit(
            seen[:, j], light, part, n_fit, of_tests, dimmest, guess, more=at_waves(more, j), tol_more=of_last
        )
    except ValueError as error:
        raise ValueError(
            f"compress: the tolerance of {tol * MMAG:g} mmag cannot be met in {name}: {error}. Give a larger tol."
        ) from None
    return j, nodes, phi


def energy_nodes(full: Any, examples: Examples, tol: float) -> tuple[Any, np.ndarray, tuple[np.ndarray, np.ndarray]]:
    """Nodes, as of a band but without the last test, for what dust absorbs of the light of all wavelengths; what a wavelength has
    for its weight in a band's mean, its width in Hz; and what the examples, and those of the last tests, absorb (example, wave)."""
    width = np.asarray(widths_in_hertz(jnp.asarray(examples.wave)), float)
    light = examples.light[examples.tested]
    absorbed = examples.gas - np.minimum(examples.transmission, examples.gas)
    all_absorbed = absorbed, examples.more.gas - np.minimum(examples.more.transmission, examples.more.gas)
    # of what hardly absorbs, the nodes need not know the share of each wavelength
    some = absorbed @ (width * light.mean(0)) > LEAST_ABSORBED * (width @ light.mean(0))
    n_fit = int(some[: examples.n_fit].sum())
    absorbed = absorbed[some][: n_fit + len(light)]
    light = light[: len(absorbed) - n_fit]
    nodes, phi = fit(width[None], light, absorbed, n_fit, tol * SHARES["nodes"][0], LEAST_ABSORBED)
    return (np.arange(width.size), nodes, phi), width, all_absorbed


def projection(full: Any, bands: Any = None, order: int = 1) -> Any:
    """Projection of some bands, and its derivatives up to an order with respect to u = ln(1 + z), at a redshift: arrays
    (band, wave)."""
    filters, wave, crowds = full.filters, full.ssp.wave, full.ssp.crowds
    if bands is not None and list(bands) != list(range(len(filters))):
        chosen = [(filters.names[b], *filters.curves()[b]) for b in bands]
        filters = FilterSet.from_arrays(*zip(*chosen, strict=True))

    def value(u):
        return (filters.projection(wave, jnp.expm1(u), crowds),)

    def with_derivative(rows):
        def more(u):
            values, slopes = jax.jvp(rows, (u,), (jnp.ones_like(u),))
            return *values, slopes[-1]

        return more

    rows = value
    for _ in range(order):
        rows = with_derivative(rows)
    rows = jax.jit(rows)
    return lambda u: tuple(np.asarray(x, float) for x in rows(jnp.asarray(u, wave.dtype)))
