"""BandSSP and BandTable: the light of a few bands, at the few wavelengths that dust needs to be known at."""

import functools
from typing import Any, NamedTuple, final

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.custom_batching import custom_vmap
from jax.custom_derivatives import SymbolicZero
from jaxtyping import Array, Float

from dspsx._model import Number, data, is_concrete
from dspsx._numerics import matmul, sum_of_products
from dspsx.compressed.certificate import Certificate
from dspsx.filters import FilterSet
from dspsx.ssp import SSPLibrary

#: Elements of a batch that are looked up together.
_BLOCK = 512


class _Bands(SSPLibrary):
    """What the light of bands at one redshift and at any have in common."""

    sizes: eqx.AbstractVar[tuple[int, ...]]
    digest: eqx.AbstractVar[str]
    certificate: eqx.AbstractVar[Certificate]

    def brief(self) -> str:
        """The certificate, for printing a model that holds it."""
        return f"{type(self).__name__}({self.certificate.brief()})"

    def spectrum_wave(self):
        raise TypeError(
            "this galaxy is compressed to the light in its bands and has no spectrum; ask the full galaxy that it was "
            "compressed from."
        )

    def band_average(self, filters, light, redshift):
        self._check_bands(filters)
        self.check_range(redshift)
        of_band = np.repeat(np.eye(len(self.sizes)), self.sizes, axis=0)
        return matmul(light, jnp.asarray(of_band, light.dtype))

    def check_use(self, filters, redshift):
        self._check_bands(filters)
        if all(map(is_concrete, jax.tree.leaves(filters))) and filters.digest() != self.digest:
            raise ValueError(
                "the curves of the galaxy's filters are not those that it was compressed for; compress the full galaxy again."
            )
        self.check_range(redshift)

    def _check_bands(self, filters: FilterSet) -> None:
        if filters.names != self.certificate.bands:
            raise ValueError(
                f"this galaxy is compressed for the bands {', '.join(self.certificate.bands)}, not for {', '.join(filters.names)}: "
                "compress the full galaxy again, with compress(filters=...)."
            )

    def check_range(self, redshift: Number | Array) -> None:
        """Raise ValueError for a redshift (or one of many) outside; where it is traced the light is NaN instead, never an
        extrapolation."""
        if not is_concrete(redshift):
            return
        lo, hi = self.certificate.redshift
        z = np.atleast_1d(np.asarray(redshift, float))
        outside = z[~_inside(z, lo, hi)]
        if outside.size:
            place = f"at redshift {lo:g}" if lo == hi else f"for redshifts {lo:g} to {hi:g}"
            many = f" ({outside.size} of {z.size} galaxies)" if z.size > 1 else ""
            raise ValueError(
                f"redshift {outside[0]:g} is outside{many}: this galaxy is compressed {place}. Compress the full galaxy with "
                "compress(redshift=...) where it is meant to be used (rest-frame magnitudes need 0)."
            )


def _inside(redshift, lo, hi):
    slack = 2e-6 * (1.0 + hi)
    return (redshift >= lo - slack) & (redshift <= hi + slack)


def _or_nan(light, redshift, lo, hi):
    return jnp.where(_inside(redshift, lo, hi), light, jnp.nan)


@final
class BandSSP(_Bands):
    r"""Light of simple stellar populations in bands at one redshift: a grid of as many "wavelengths" as the bands need nodes.

    Node n of a band carries the light that :math:`\int T L_\nu \phi_n \, d\lambda / \lambda` collects, where the functions
    :math:`\phi_n` interpolate any law of dust from its values at the nodes (see `nodes.fit`). The sum over the nodes of what
    dust lets through is the mean in the band. The derivative with respect to redshift is exact, and costs nothing where it is
    not asked for.

    **Fields:** `wave` (node,) rest-frame Angstrom; `flux` (met, age, node) Lsun/Hz per Msun; `slope`, its derivative with
    respect to redshift; `sizes`, nodes of each band; `digest` of the filters; `certificate`.
    """

    sizes: tuple[int, ...] = eqx.field(static=True)
    digest: str = eqx.field(static=True)
    certificate: Certificate
    wave: Float[Array, " node"] = data()
    lg_age: Float[Array, " age"] = data()
    lgmet: Float[Array, " met"] = data()
    flux: Float[Array, "met age node"] = data()
    slope: Float[Array, "met age node"] = data()

    def sampling(self, redshift):
        return self.wave

    def integrate(self, weights, redshift=0.0):
        self.check_range(redshift)
        flat = weights.reshape(*weights.shape[:-2], -1)
        flux, slope = (x.reshape(-1, self.wave.size) for x in (self.flux, self.slope))
        redshift = jnp.asarray(redshift, flat.dtype)
        return _or_nan(_contract(flat, redshift, flux, slope), redshift, *self.certificate.redshift)

    def integrate_separable(self, metallicity, mass, redshift=0.0):
        self.check_range(redshift)
        redshift = jnp.asarray(redshift, mass.dtype)
        flux, slope = (x.swapaxes(0, 1).reshape(self.lg_age.size, -1) for x in (self.flux, self.slope))
        light = sum_of_products(metallicity, _contract(mass, redshift, flux, slope))
        return _or_nan(light, redshift, *self.certificate.redshift)


@jax.custom_jvp
def _contract(flat, redshift, flux, slope):
    return matmul(flat, flux)


@functools.partial(_contract.defjvp, symbolic_zeros=True)
def _(primals, tangents):
    flat, _, flux, slope = primals
    d_flat, d_redshift, d_flux, _ = tangents
    terms = []
    if not isinstance(d_flat, SymbolicZero):
        terms.append(matmul(d_flat, flux))
    if not isinstance(d_flux, SymbolicZero):
        terms.append(matmul(flat, d_flux))
    if not isinstance(d_redshift, SymbolicZero):
        terms.append(matmul(flat, slope) * d_redshift)
    light = matmul(flat, flux)
    return light, sum(terms) if terms else jnp.zeros_like(light)


@final
class BandTable(_Bands):
    r"""Light of simple stellar populations in bands at any redshift of a range.

    The range is cut into segments of :math:`u = \ln(1 + z)`. In each, a galaxy's weights are contracted with `basis`, which
    leaves a few numbers for each band; these with `table`, the cubic Hermite interpolation in u of the exact integrals and
    their exact derivatives. The distance is not in it. All redshifts of a segment share their nodes, since its bands see
    nearly the same wavelengths. Galaxies evaluated together in order of redshift share the matrices (`dspsx.predict` sees to
    the order); in any other order the result is the same, and slower.

    **Fields:** `wave` (segment, node) rest-frame Angstrom; `basis` (segment, met x age, K); `table` (step, 4 K node): for each
    step of u and each band, one after the other, (K, 4, node) with values and derivatives per step at both ends, in Lsun/Hz;
    `ranks` and `sizes`, K and the number of nodes of each band; `origin` and `step` of u; `digest` of the filters;
    `certificate`.
    """

    origin: float = eqx.field(static=True)
    step: float = eqx.field(static=True)
    ranks: tuple[int, ...] = eqx.field(static=True)
    sizes: tuple[int, ...] = eqx.field(static=True)
    digest: str = eqx.field(static=True)
    certificate: Certificate
    wave: Float[Array, "segment node"] = data()
    lg_age: Float[Array, " age"] = data()
    lgmet: Float[Array, " met"] = data()
    basis: Float[Array, "segment stars K"] = data()
    table: Float[Array, "step entry"] = data()

    def _place(self, redshift):
        """Segment, step and fraction of the step."""
        u = (jnp.log1p(redshift) - self.origin) / self.step
        step = jnp.clip(jnp.floor(jax.lax.stop_gradient(u)), 0, self.table.shape[0] - 1)
        segment = step.astype(np.int32) // (self.table.shape[0] // self.wave.shape[0])
        return segment, step.astype(np.int32), u - step

    def sampling(self, redshift):
        segment, _, _ = self._place(jnp.asarray(redshift, self.wave.dtype))
        return jax.lax.stop_gradient(self.wave)[segment]

    def integrate(self, weights, redshift=0.0):
        self.check_range(redshift)
        redshift = jnp.asarray(redshift, self.wave.dtype)
        segment, step, x = self._place(redshift)
        lead = weights.shape[:-2]
        stars = weights.reshape(-1, self.basis.shape[1])
        factors = looked_up(_Dense(), stars, segment, jax.lax.stop_gradient(self.basis))
        corners = looked_up(_Corners(self.ranks, self.sizes), factors, step, jax.lax.stop_gradient(self.table))
        y = 1.0 - x
        hermite = jnp.stack([y * y * (1.0 + 2.0 * x), x * y * y, x * x * (1.0 + 2.0 * y), -x * x * y])
        light = sum_of_products(hermite, corners).reshape(*lead, -1)
        return _or_nan(light, redshift, *self.certificate.redshift)


class _Dense(NamedTuple):
    """Linear map by the one matrix that stands at an index."""

    def apply(self, x, matrix):
        return matmul(x, matrix)

    def transpose(self, g, matrix):
        return jax.lax.dot_general(g, matrix, (((g.ndim - 1,), (1,)), ((), ())), precision=jax.lax.Precision.HIGHEST)


class _Corners(NamedTuple):
    """Linear map from the factors of all bands, one after the other, to the corners of a step: (..., 4 x node)."""

    ranks: tuple[int, ...]
    sizes: tuple[int, ...]

    def _matrices(self, row):
        ends = np.cumsum([4 * k * n for k, n in zip(self.ranks, self.sizes, strict=True)])[:-1]
        return [x.reshape(k, -1) for x, k in zip(jnp.split(row, ends), self.ranks, strict=True)]

    def apply(self, x, row):
        parts = jnp.split(x, np.cumsum(self.ranks)[:-1], axis=-1)
        corners = [matmul(part, m) for part, m in zip(parts, self._matrices(row), strict=True)]
        quarters = zip(*(jnp.split(corner, 4, axis=-1) for corner in corners), strict=True)
        return jnp.concatenate([x for quarter in quarters for x in quarter], axis=-1)

    def transpose(self, g, row):
        quarters = [jnp.split(quarter, np.cumsum(self.sizes)[:-1], axis=-1) for quarter in jnp.split(g, 4, axis=-1)]
        corners = [jnp.concatenate(of_band, axis=-1) for of_band in zip(*quarters, strict=True)]
        return jnp.concatenate(
            [_Dense().transpose(corner, m) for corner, m in zip(corners, self._matrices(row), strict=True)], axis=-1
        )


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def looked_up(kind: Any, x: Array, index: Array, table: Array) -> Array:
    """x (row, inner), mapped linearly by what stands at `index` in a table.

    In a batch each element has an index of its own. Blocks of elements are mapped by everything between their first index
    and their last, one after the other, and each element takes its own: matrix products, and few of them where the batch is
    in order of the index.
    """
    return _look_up(kind, False)(x, index, table)


looked_up.defvjp(
    lambda kind, x, index, table: (_look_up(kind, False)(x, index, table), (index, table)),
    lambda kind, saved, g: (_look_up(kind, True)(g, *saved), None, None),
)


@functools.cache
def _look_up(kind: Any, transposed: bool):
    linear = kind.transpose if transposed else kind.apply
    at = functools.partial(jax.lax.dynamic_index_in_dim, axis=0, keepdims=False)
    mapped = custom_vmap(lambda x, index, table: linear(x, at(table, index)))

    def block(x, index, table):
        rows = x.reshape(-1, x.shape[-1])
        index = jnp.repeat(index, len(rows) // len(index))

        def step(i, found):
            return jnp.where((index == i)[:, None], linear(rows, at(table, i)), found)

        like = jax.eval_shape(linear, rows, jax.ShapeDtypeStruct(table.shape[1:], table.dtype))
        found = jax.lax.fori_loop(index.min(), index.max() + 1, step, jnp.zeros(like.shape, like.dtype))
        return found.reshape(*x.shape[:-1], -1)

    @mapped.def_vmap
    def _(size, in_batched, x, index, table):
        if in_batched[2]:
            raise NotImplementedError(
                "a BandTable is data, which a batch of galaxies shares: map over parameters only."
            )
        if not in_batched[0]:
            x = jnp.broadcast_to(x, (size, *x.shape))
        if not in_batched[1]:
            return linear(x, at(table, index)), True
        n = next((n for n in range(-(-size // _BLOCK), size // _BLOCK * 2) if size % n == 0), 1)
        if n == 1:
            return block(x, index, table), True
        blocks = (x.reshape(n, -1, *x.shape[1:]), index.reshape(n, -1))
        found = jax.lax.map(lambda pair: block(*pair, table), blocks)
        return found.reshape(size, *found.shape[2:]), True

    return mapped
