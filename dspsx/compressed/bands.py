"""BandSSP and BandTable: the light of a few bands, at the few wavelengths that dust needs to be known at."""

import functools
from typing import final

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.custom_batching import custom_vmap
from jax.custom_derivatives import SymbolicZero
from jaxtyping import Array, Float

from dspsx._model import Number, data, is_concrete
from dspsx.compressed.certificate import Certificate
from dspsx.filters import FilterSet
from dspsx.ssp import SSPLibrary

_matmul = functools.partial(jnp.matmul, precision=jax.lax.Precision.HIGHEST)


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
        return _matmul(light, jnp.asarray(of_band, light.dtype))

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
        light = _sum_of_products(metallicity, _contract(mass, redshift, flux, slope))
        return _or_nan(light, redshift, *self.certificate.redshift)


@jax.custom_jvp
def _contract(flat, redshift, flux, slope):
    return _matmul(flat, flux)


@functools.partial(_contract.defjvp, symbolic_zeros=True)
def _(primals, tangents):
    flat, _, flux, slope = primals
    d_flat, d_redshift, d_flux, _ = tangents
    terms = []
    if not isinstance(d_flat, SymbolicZero):
        terms.append(_matmul(d_flat, flux))
    if not isinstance(d_flux, SymbolicZero):
        terms.append(_matmul(flat, d_flux))
    if not isinstance(d_redshift, SymbolicZero):
        terms.append(_matmul(flat, slope) * d_redshift)
    light = _matmul(flat, flux)
    return light, sum(terms) if terms else jnp.zeros_like(light)


@jax.custom_jvp
def _sum_of_products(weights, parts):
    """weights (part,) times parts (part x n), summed over the parts: (n,)."""
    return sum(weights[i] * part for i, part in enumerate(jnp.split(parts, weights.size, axis=-1)))


@_sum_of_products.defjvp
def _(primals, tangents):
    # as the compiler sees it, the transpose of plain broadcasting is a small sum for each part; that of a product with a
    # constant matrix is a matrix product
    (weights, parts), (d_weights, d_parts) = primals, tangents
    spread = np.repeat(np.eye(weights.size, dtype=parts.dtype), parts.shape[-1] // weights.size, axis=1)
    change = _matmul(d_weights, spread) * parts + jnp.repeat(weights, parts.shape[-1] // weights.size) * d_parts
    return _sum_of_products(weights, parts), sum(jnp.split(change, weights.size, axis=-1))


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
        factors = indexed_matmul(2, stars, segment, jax.lax.stop_gradient(self.basis))
        y = 1.0 - x
        hermite = jnp.stack([y * y * (1.0 + 2.0 * x), x * y * y, x * x * (1.0 + 2.0 * y), -x * x * y])
        ends = np.cumsum([4 * k * n for k, n in zip(self.ranks, self.sizes, strict=True)])[:-1]
        tables = jnp.split(jax.lax.stop_gradient(self.table), ends, axis=1)
        light = []
        parts = jnp.split(factors, np.cumsum(self.ranks)[:-1], axis=-1)
        for part, table, k, n in zip(parts, tables, self.ranks, self.sizes, strict=True):
            corners = indexed_matmul(8, part, step, table.reshape(-1, k, 4 * n))
            value, slope, next_value, next_slope = jnp.split(corners, 4, axis=-1)
            light.append(value * hermite[0] + slope * hermite[1] + next_value * hermite[2] + next_slope * hermite[3])
        light = jnp.concatenate(light, axis=-1).reshape(*lead, -1)
        return _or_nan(light, redshift, *self.certificate.redshift)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def indexed_matmul(window: int, x: Array, index: Array, matrices: Array) -> Array:
    """x (row, inner) times matrices[index] (inner, outer).

    In a batch each element has an index of its own. If all lie within `window` neighbours, as they do in a batch that is in
    order, this is one product with these few matrices, of which each element takes its own; if not, one after the other.
    """
    return _product(window, False)(x, index, matrices)


@functools.cache
def _product(window: int, transposed: bool):
    def plain(x, index, matrices):
        matrix = jax.lax.dynamic_index_in_dim(matrices, index, keepdims=False)
        return _matmul(x, matrix.T if transposed else matrix)

    product = custom_vmap(plain)

    @product.def_vmap
    def _(axis_size, in_batched, x, index, matrices):
        if in_batched[2]:
            raise NotImplementedError(
                "a BandTable is data, which a batch of galaxies shares: map over parameters only."
            )
        if not in_batched[0]:
            x = jnp.broadcast_to(x, (axis_size, *x.shape))
        if not in_batched[1]:
            return jax.vmap(plain, in_axes=(0, None, None))(x, index, matrices), True
        rows = x.shape[1]
        first, last = index.min(), index.max()

        def among(count):
            def together():
                start = jnp.clip(first, 0, matrices.shape[0] - count)
                few = jax.lax.dynamic_slice_in_dim(matrices, start, count)
                few = few.swapaxes(1, 2) if transposed else few  # (count, inner, outer)
                if count == 1:
                    return _matmul(x.reshape(axis_size * rows, -1), few[0]).reshape(axis_size, rows, -1)
                outer = few.shape[2]
                every = _matmul(x.reshape(axis_size * rows, -1), few.swapaxes(0, 1).reshape(few.shape[1], -1))
                every = every.reshape(axis_size, rows, count, outer)
                mine = (index - start)[:, None, None]
                return sum(jnp.where(mine == i, every[:, :, i], 0.0) for i in range(count))

            return together

        def apart():
            return jax.lax.map(lambda pair: plain(pair[0], pair[1], matrices), (x, index))

        result = apart
        for count in (c for c in (window, window // 2, 1) if 1 <= c <= matrices.shape[0]):
            fits = last - jnp.clip(first, 0, matrices.shape[0] - count) < count
            result = functools.partial(jax.lax.cond, fits, among(count), result)
        return result(), True

    return product


indexed_matmul.defvjp(
    lambda window, x, index, matrices: (_product(window, False)(x, index, matrices), (index, matrices)),
    lambda window, saved, g: (_product(window, True)(g, *saved), None, None),
)
