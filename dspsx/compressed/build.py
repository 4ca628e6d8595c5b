"""Compress a galaxy to its bands, and measure what that costs."""

import dataclasses
import numbers
import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from dspsx._model import is_concrete, plain, require_single
from dspsx._progress import Progress
from dspsx.compressed.band_nodes import one_redshift
from dspsx.compressed.errors import MMAG, Validation, certify
from dspsx.compressed.examples import Examples
from dspsx.compressed.tables import table
from dspsx.filters import FilterSet
from dspsx.ssp import SSPGrid


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
    if not isinstance(n_galaxies, int | np.integer) or n_galaxies < 1:
        raise ValueError(f"compress: n_galaxies must be a positive integer; got {n_galaxies!r}.")
    if not isinstance(seed, int | np.integer) or isinstance(seed, bool) or seed < 0:
        raise ValueError(f"compress: seed must be an integer of 0 or more; got {seed!r}.")
    full, lo, hi = _checked(galaxy, filters, redshift, tol, depth)
    tol = float(tol)
    for z in sorted({lo, hi}):
        full.ssp.check_use(full.filters, jnp.asarray(z))
    bar = Progress("compress", progress)
    share, worst, validation, kept = np.ones(len(full.filters.names)), np.inf, None, {}
    try:
        examples = Examples(full, lo, hi, depth, np.random.default_rng(seed), bar)
        for _ in range(4):
            build = one_redshift if lo == hi else table
            make = build(full, lo, hi, examples, share * tol * 1e3 / MMAG, bar, kept)
            bar.tell("certificate")
            validation = validation or Validation(full, lo, hi, depth, n_galaxies, seed + 1)
            small, certificate = certify(full, make, validation, lo, hi, tol, started)
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
    if not _number(tol) or not 0 < tol < 1:
        raise ValueError(f"compress: tol must be a number of magnitudes between 0 and 1, such as 1e-3; got {tol!r}.")
    if depth is not None and (not _number(depth) or not depth > 0):
        raise ValueError(f"compress: depth must be a number of magnitudes of dimming above 0, or None; got {depth!r}.")
    if filters is not None and not isinstance(filters, FilterSet):
        raise TypeError(f"compress: filters must be a FilterSet, such as FilterSet.load('lsst_*'); got {filters!r}.")
    given = float(galaxy.redshift) if redshift is None else plain("compress: redshift", redshift)
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


def _number(x: Any) -> bool:
    return isinstance(x, numbers.Real) and not isinstance(x, bool)
