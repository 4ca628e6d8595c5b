"""What compression costs: errors of light, and the certificate."""

import contextlib
import dataclasses
import time
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from dspsx._model import AbstractModel, Parameter, infos
from dspsx.compressed.certificate import Certificate, kinds
from dspsx.compressed.examples import draw, each_galaxy
from dspsx.dust.attenuation import NoDust
from dspsx.filters import FilterSet
from dspsx.nebular import LYMAN_LIMIT

MMAG = 1e3 * 2.5 / np.log(10.0)
#: What derivatives by redshift should be good to: a share of themselves, or of so much in mag per unit of redshift if that is more.
OF_SLOPE, LEAST_SLOPE = 0.01, 1.0
#: Galaxies whose derivatives are certified.
_N_SLOPES = 200


def _magnitudes(galaxy: Any) -> Any:
    return galaxy.magnitudes()


def _with_and_without_dust(galaxy: Any) -> Any:
    return galaxy.magnitudes(), eqx.tree_at(lambda g: g.dust, galaxy, NoDust()).magnitudes()


def _at(galaxy: Any) -> Any:
    return lambda z: eqx.tree_at(lambda g: g.redshift, galaxy, z).magnitudes()


def with_slopes(galaxy: Any) -> tuple[Any, Any]:
    """Magnitudes, and their derivatives by redshift; of a full galaxy (forward mode)."""
    return jax.jvp(_at(galaxy), (galaxy.redshift,), (jnp.ones_like(galaxy.redshift),))


def with_slopes_of_table(galaxy: Any) -> tuple[Any, Any]:
    """The same of a galaxy compressed for a range of redshift (reverse mode)."""
    return _at(galaxy)(galaxy.redshift), jax.jacrev(_at(galaxy))(galaxy.redshift)


def off(approximate: np.ndarray, exact: np.ndarray, least: np.ndarray) -> np.ndarray:
    """Errors relative to the exact light, or to the least that counts; 0 where there is none."""
    return np.where(least > 0, np.abs(approximate - exact) / np.maximum(np.maximum(exact, least), 1e-300), 0.0)


def red_ends(filters: FilterSet) -> np.ndarray:
    """Wavelength below which 99.9 % of each band's weight lies."""
    ends = []
    for wave, transmission in filters.curves():
        fine = np.linspace(float(wave[0]), float(wave[-1]), 4001)
        collected = np.cumsum(np.interp(fine, wave, transmission) / fine)
        ends.append(fine[np.searchsorted(collected, 0.999 * collected[-1])])
    return np.array(ends)


class Validation:
    """Galaxies that take no part in the fit, with their exact magnitudes."""

    def __init__(self, full: Any, lo: float, hi: float, depth: float | None, n: int, seed: int | list[int]):
        rng = np.random.default_rng(seed)
        z = np.expm1(rng.uniform(np.log1p(lo), np.log1p(hi), n)) if lo < hi else np.full(n, lo)
        z = jnp.asarray(np.clip(z, lo, hi), full.redshift.dtype)
        self.galaxies = eqx.tree_at(lambda g: g.redshift, draw(full, rng, n), z)
        self.depth, self.clear, self.slopes = depth, None, None
        if depth is None:
            self.exact = each_galaxy(_magnitudes, self.galaxies, 20)
        else:
            self.exact, self.clear = each_galaxy(_with_and_without_dust, self.galaxies, 20)
        z = np.asarray(z, float)
        self.blue = red_ends(full.filters)[None, :] <= LYMAN_LIMIT * (1.0 + z)[:, None]
        self.dark = (self.exact > 80.0) & ~self.blue

    def errors(self, ssp: Any) -> np.ndarray:
        """Error in mmag (galaxy, band) with another SSP library; 0 for what is left out."""
        found = each_galaxy(_magnitudes, eqx.tree_at(lambda g: g.ssp, self.galaxies, ssp), 20)
        error = 1e3 * np.abs(found - self.exact)
        if self.clear is not None:
            ratio = 10 ** (-0.4 * (found - self.exact))
            error = MMAG * np.abs(ratio - 1.0) * np.minimum(1.0, 10 ** (-0.4 * (self.exact - self.clear - self.depth)))
        error = np.where(np.isfinite(error), error, np.inf)
        return np.where(self.blue | self.dark, 0.0, error)

    def slope_errors(self, ssp: Any) -> np.ndarray | None:
        """Errors (any,) of derivatives by redshift with a BandTable, of the first galaxies, in bands that count; None if none do,
        and where a user's ingredient lacks derivatives in one mode or the other, as a `jax.custom_vjp` or a loop does."""
        some = jax.tree.map(
            lambda info, x: x[:_N_SLOPES] if isinstance(info, Parameter) else x, infos(self.galaxies), self.galaxies
        )
        found = None
        # JAX raises any of these where there is none; of dspsx's own ingredients all have both, and an error is one
        none = () if all(kinds(self.galaxies).values()) else (TypeError, ValueError, NotImplementedError)
        with contextlib.suppress(*none):
            if self.slopes is None:
                self.slopes = each_galaxy(with_slopes, some, 20)[1]
            found = each_galaxy(with_slopes_of_table, eqx.tree_at(lambda g: g.ssp, some, ssp), 20)[1]
        if found is None or self.slopes is None:
            return None
        exact = self.slopes
        counts = ~(self.blue | self.dark)[: len(exact)]
        if self.clear is not None:
            counts &= (self.exact - self.clear < self.depth)[: len(exact)]
        error = np.abs(found - exact) / np.maximum(np.abs(exact), LEAST_SLOPE)
        return np.where(np.isfinite(error), error, np.inf)[counts] if counts.any() else None

    def excepted(self) -> str:
        """What is left out, in words."""
        blue, dark = f"{self.blue.mean():.1%}", f"{self.dark.mean():.1%}"
        text = f"{blue} blueward of the Lyman limit and {dark} without light (above 80 mag) left out"
        if self.depth is not None:
            text += f"; of bands that dust dims by more than {self.depth:g} mag, errors relative to the light at {self.depth:g} mag"
        return text


def certify(
    full: Any, make: Any, validation: Validation, lo: float, hi: float, tol: float, started: float
) -> tuple[Any, Certificate]:
    """The compressed galaxy, and its errors."""
    draft = {"p99_mmag": np.inf, "worst_mmag": np.inf, "median_mmag": np.inf, "worst_of_band": (), "excepted": ""}
    fixed = {
        "bands": full.filters.names,
        "redshift": (lo, hi),
        "tol_mmag": 1e3 * tol,
        "n_galaxies": len(validation.exact),
        "model": ", ".join(
            f"{name}={'/'.join(kinds(part))}" for name, part in vars(full).items() if isinstance(part, AbstractModel)
        ),
        "dtype": full.redshift.dtype.name,
    }
    ssp = make(certificate=Certificate(nodes=(), rank=0, rows=1, megabytes=0.0, seconds=0.0, **fixed, **draft))
    compact = dataclasses.replace(full, ssp=ssp)
    error = validation.errors(ssp)
    counted = error[~(validation.blue | validation.dark)]
    if not counted.size:
        counted = np.zeros(1)
    meets = counted.max() <= 1e3 * tol
    slopes = validation.slope_errors(ssp) if meets and lo < hi else None
    arrays = [ssp.wave, *([ssp.basis, ssp.table, ssp.slope, ssp.bend] if lo == hi else [ssp.basis, *ssp.table])]
    certificate = Certificate(
        nodes=tuple(int(n) for n in np.array(ssp.sizes)[np.argsort(ssp.order)]),
        rank=len(ssp.table) if lo == hi else max(table.shape[1] for table in ssp.table) // 2,
        rows=1 if lo == hi else max(len(table) for table in ssp.table) - len(ssp.wave) + 1,
        worst_mmag=float(counted.max()),
        p99_mmag=float(np.quantile(counted, 0.99)),
        median_mmag=float(np.median(counted)),
        worst_of_band=tuple(float(e) for e in error.max(0)),
        slopes_off=None if slopes is None else float((slopes > OF_SLOPE).mean()),
        worst_slope=None if slopes is None else float(slopes.max()),
        excepted=validation.excepted(),
        megabytes=sum(a.nbytes for a in arrays) / 1e6,
        seconds=time.perf_counter() - started,
        **fixed,
    )
    return dataclasses.replace(compact, ssp=make(certificate=certificate)), certificate
