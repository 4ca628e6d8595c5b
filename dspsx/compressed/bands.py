"""BandSSP and BandTable: the light of a few bands, at the few wavelengths that dust needs to be known at."""

import functools
from typing import Any, final

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.custom_batching import custom_vmap
from jax.custom_derivatives import SymbolicZero
from jaxtyping import Array, Float

from dspsx._model import Number, data, is_concrete
from dspsx._numerics import matmul, spread, sum_of_products, total
from dspsx.compressed.certificate import Certificate
from dspsx.filters import FilterSet
from dspsx.ssp import SSPLibrary

#: Elements of a batch that are looked up together.
_BLOCK = 64
#: Where the step in redshift stands among the arguments of what is looked up.
_STEP = 4


@final
class EnergySSP(SSPLibrary):
    r"""Luminosity of simple stellar populations at the few wavelengths from which follows what dust absorbs of it in all.

    Node n carries the luminosity in Lsun that :math:`\int L_\nu \phi_n \, d\nu` collects, as in `BandSSP`: its sum with what
    dust absorbs at each node is the absorbed luminosity.
    """

    wave: Float[Array, " node"] = data()
    lg_age: Float[Array, " age"] = data()
    lgmet: Float[Array, " met"] = data()
    flux: Float[Array, "met age node"] = data()

    def sampling(self, redshift):
        return self.wave

    def integrate(self, weights, redshift=0.0):
        return matmul(weights.reshape(*weights.shape[:-2], -1), self.flux.reshape(-1, self.wave.size))

    def integrate_separable(self, metallicity, mass, redshift=0.0):
        flux = self.flux.swapaxes(0, 1).reshape(self.lg_age.size, -1)
        return sum_of_products(metallicity, matmul(mass, flux))

    def band_average(self, filters, light, redshift):
        raise TypeError("an EnergySSP knows the light of no band.")

    def spectrum_wave(self):
        raise TypeError("an EnergySSP has no spectrum.")


class _Bands(SSPLibrary):
    """What the light of bands at one redshift and at any have in common."""

    sizes: eqx.AbstractVar[tuple[int, ...]]
    order: eqx.AbstractVar[tuple[int, ...]]
    digest: eqx.AbstractVar[str]
    certificate: eqx.AbstractVar[Certificate]
    energy: eqx.AbstractVar[EnergySSP | None]

    def brief(self) -> str:
        """The certificate, for printing a model that holds it."""
        return f"{type(self).__name__}({self.certificate.brief()})"

    def spectrum_wave(self):
        raise TypeError(
            "this galaxy is compressed to the light in its bands and has no spectrum; ask the full galaxy that it was "
            "compressed from."
        )

    def bolometric(self):
        if self.energy is None:
            raise TypeError(
                "this galaxy was compressed without dust emission, and does not know how much its dust absorbs: compress the "
                "full galaxy again, with its dust_emission."
            )
        return self.energy, jnp.ones_like(self.energy.wave)

    def band_average(self, filters, light, redshift):
        self._check_bands(filters)
        self.check_range(redshift)
        of_band = np.repeat(np.eye(len(self.sizes))[list(self.order)], self.sizes, axis=0)
        return matmul(light, jnp.asarray(of_band, light.dtype))

    def check_use(self, filters, redshift):
        self._check_bands(filters)
        if all(map(is_concrete, jax.tree.leaves(filters))) and filters.digest() != self.digest:
            raise ValueError(
                "the curves of the galaxy's filters are not those that it was compressed for; compress the full galaxy again."
            )
        self.check_range(redshift)

    def check_igm(self, igm):
        if igm is not None and f"igm={type(igm).__name__}" not in self.certificate.model.split(", "):
            raise ValueError(
                f"this galaxy was compressed without {type(igm).__name__}, and has no nodes where it absorbs: put it into the "
                "full galaxy, and compress that again."
            )

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
    dust lets through is the mean in the band. The first two derivatives with respect to redshift are exact, and cost nothing
    where they are not asked for; a third raises TypeError.

    **Fields:** `wave` (node,) rest-frame Angstrom; `flux` (met, age, node) Lsun/Hz per Msun; `slope` and `bend`, its first two
    derivatives with respect to redshift; `sizes`, nodes of each band, and `order`, the bands; `digest` of the filters;
    `certificate`; `energy`, for a galaxy with dust emission.
    """

    sizes: tuple[int, ...] = eqx.field(static=True)
    order: tuple[int, ...] = eqx.field(static=True)
    digest: str = eqx.field(static=True)
    certificate: Certificate
    wave: Float[Array, " node"] = data()
    lg_age: Float[Array, " age"] = data()
    lgmet: Float[Array, " met"] = data()
    flux: Float[Array, "met age node"] = data()
    slope: Float[Array, "met age node"] = data()
    bend: Float[Array, "met age node"] = data()
    energy: EnergySSP | None = None

    def sampling(self, redshift):
        return self.wave

    def integrate(self, weights, redshift=0.0):
        self.check_range(redshift)
        flat = weights.reshape(*weights.shape[:-2], -1)
        rows = (x.reshape(-1, self.wave.size) for x in (self.flux, self.slope, self.bend))
        redshift = jnp.asarray(redshift, flat.dtype)
        return _or_nan(_contract(flat, redshift, *rows), redshift, *self.certificate.redshift)

    def integrate_separable(self, metallicity, mass, redshift=0.0):
        self.check_range(redshift)
        redshift = jnp.asarray(redshift, mass.dtype)
        rows = (x.swapaxes(0, 1).reshape(self.lg_age.size, -1) for x in (self.flux, self.slope, self.bend))
        light = sum_of_products(metallicity, _contract(mass, redshift, *rows))
        return _or_nan(light, redshift, *self.certificate.redshift)


@jax.custom_jvp
def _contract(flat, redshift, flux, *derivatives):
    """flat times flux, whose derivatives with respect to redshift, one after the other, are those that follow."""
    return matmul(flat, flux)


@functools.partial(_contract.defjvp, symbolic_zeros=True)
def _(primals, tangents):
    flat, redshift, flux, *derivatives = primals
    d_flat, d_redshift, d_flux, *_ = tangents
    terms = []
    if not isinstance(d_flat, SymbolicZero):
        terms.append(_contract(d_flat, redshift, flux, *derivatives))
    if not isinstance(d_flux, SymbolicZero):
        terms.append(matmul(flat, d_flux))
    if not isinstance(d_redshift, SymbolicZero):
        if not derivatives:
            raise TypeError(
                "a galaxy compressed at one redshift has two derivatives with respect to it; for a third use the full galaxy."
            )
        terms.append(_contract(flat, redshift, *derivatives) * d_redshift)
    light = _contract(flat, redshift, flux, *derivatives)
    return light, sum(terms) if terms else jnp.zeros_like(light)


@final
class BandTable(_Bands):
    r"""Light of simple stellar populations in bands at any redshift of a range.

    The range is cut into segments of :math:`u = \ln(1 + z)`. In each, a galaxy's weights are contracted with `basis`, which
    leaves a few numbers for each band; these with `table`, the cubic Hermite interpolation in u of the exact integrals and
    their exact derivatives. The distance is not in it. All redshifts of a segment share their nodes, since its bands see
    nearly the same wavelengths. Galaxies evaluated together are put in order of redshift, to share the matrices: the more
    there are in a batch (or the closer in redshift, as `dspsx.predict` has them), the faster.

    **Fields:** `wave` (segment, node) rest-frame Angstrom; `basis` (segment, met x age, K); `table`, for each group of bands
    that has steps of its own (step, 4 K node): for each step of u and each band, one after the other, (K, 4, node) with values
    and derivatives per step at both ends, in Lsun/Hz; `groups`, the number of bands in each; `order`, the bands as they come;
    `ranks` and `sizes`, K and the number of nodes of each; `origin` of u and `width` of a segment; `digest` of the filters;
    `certificate`; `energy`, for a galaxy with dust emission.
    """

    origin: float = eqx.field(static=True)
    width: float = eqx.field(static=True)
    groups: tuple[int, ...] = eqx.field(static=True)
    order: tuple[int, ...] = eqx.field(static=True)
    ranks: tuple[int, ...] = eqx.field(static=True)
    sizes: tuple[int, ...] = eqx.field(static=True)
    digest: str = eqx.field(static=True)
    certificate: Certificate
    wave: Float[Array, "segment node"] = data()
    lg_age: Float[Array, " age"] = data()
    lgmet: Float[Array, " met"] = data()
    basis: Float[Array, "segment stars K"] = data()
    table: tuple[Float[Array, "_ _"], ...] = data(convert=False)
    energy: EnergySSP | None = None

    def _place(self, redshift):
        """Segment, and step and fraction of the step in each group."""
        u = (jnp.log1p(redshift) - self.origin) / self.width
        n = np.array([len(table) // len(self.wave) for table in self.table])
        step = jnp.floor(jax.lax.stop_gradient(u) * jnp.asarray(n, u.dtype))
        step = jnp.clip(step, 0, jnp.asarray(n * len(self.wave) - 1, u.dtype))
        x = u * jnp.asarray(n, u.dtype) - step
        step = step.astype(np.int32)
        return step[0] // int(n[0]), step, x

    def sampling(self, redshift):
        segment, _, _ = self._place(jnp.asarray(redshift, self.wave.dtype))
        return jax.lax.stop_gradient(self.wave)[segment]

    def integrate(self, weights, redshift=0.0):
        # as one "metallicity" of met x age stars
        lead, stars = weights.shape[:-2], weights.reshape(-1, self.basis.shape[1])
        return self._light(jnp.ones(1, stars.dtype), stars, redshift).reshape(*lead, -1)

    def integrate_separable(self, metallicity, mass, redshift=0.0):
        lead = mass.shape[:-1]
        return self._light(metallicity, mass.reshape(-1, mass.shape[-1]), redshift).reshape(*lead, -1)

    def _light(self, metallicity, mass, redshift):
        self.check_range(redshift)
        redshift = jnp.asarray(redshift, self.wave.dtype)
        segment, step, x = self._place(redshift)
        y = 1.0 - x
        hermite = jnp.stack([y * y * (1.0 + 2.0 * x), x * y * y, x * x * (1.0 + 2.0 * y), -x * x * y])
        tables = jax.lax.stop_gradient((self.basis, self.table))
        layout = (self.ranks, self.sizes, self.groups)
        light = table_light(layout, metallicity, mass, hermite, (segment, step), tables)
        return _or_nan(light, redshift, *self.certificate.redshift)


# The contraction of a BandTable. Galaxies in a batch have each a place of their own in the tables; blocks of them are
# contracted with everything between the first place in the block and the last, one after the other, and each takes its own:
# matrix products, and few of them in order of redshift. What is large stays within a block.


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def table_light(layout: Any, metallicity: Array, mass: Array, hermite: Array, place: Any, tables: Any) -> Array:
    """Light (row, node) of stars with masses (row, age) in each of the metallicities (met,).

    **Arguments:** `layout`, the table's ranks, sizes and groups; `hermite`, the shares of the four corners of a step (4, group);
    `place`, segment and step (group,); `tables`, basis and table.
    """
    return _table_light(layout, metallicity, mass, hermite, place, tables)[0]


def _table_light(layout, metallicity, mass, hermite, place, tables):
    return _collapsed(_forward, layout)((metallicity, mass, hermite, *place), tables)


def _table_light_forward(layout, metallicity, mass, hermite, place, tables):
    light, corners = _table_light(layout, metallicity, mass, hermite, place, tables)
    return light, (metallicity, mass, hermite, place, corners, tables)


def _table_light_backward(layout, saved, g):
    metallicity, mass, hermite, place, corners, tables = saved
    args = (metallicity, mass, hermite, *place, corners, g)
    return *_collapsed(_backward, layout)(args, tables), (None, None), (None, None)


table_light.defvjp(_table_light_forward, _table_light_backward)


@functools.cache
def _collapsed(function: Any, layout: Any):
    """A function of arrays with one leading axis, as one of single elements whose vmaps, nested or not, become that axis."""

    @custom_vmap
    def many(args, tables):
        size = len(args[0])
        if size == 0:
            found = jax.eval_shape(
                lambda: function(layout, *(jnp.zeros((1, *x.shape[1:]), x.dtype) for x in args), *tables)
            )
            return jax.tree.map(lambda x: jnp.zeros((0, *x.shape[1:]), x.dtype), found)
        # blocks of one size, in order of redshift; the last rows again fill up the last one
        n = -(-size // _BLOCK)
        order = jnp.argsort(args[_STEP][:, 0])
        fill = n * -(-size // n) - size
        rows = jnp.concatenate([order, order[size - fill :]]).reshape(n, -1)
        found = jax.lax.map(lambda row: function(layout, *(x[row] for x in args), *tables), rows)
        back = jnp.zeros_like(order).at[order].set(jnp.arange(size, dtype=order.dtype), unique_indices=True)
        return jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:])[back], found)

    @many.def_vmap
    def _(size, in_batched, args, tables):
        if any(jax.tree.leaves(in_batched[1])):
            raise NotImplementedError(
                "a BandTable is data, which a batch of galaxies shares: map over parameters only."
            )
        inner = args[0].shape[in_batched[0][0]]
        args = [
            (x if batched else jnp.broadcast_to(x, (size, *x.shape))).reshape(size * inner, *x.shape[batched + 1 :])
            for x, batched in zip(args, in_batched[0], strict=True)
        ]
        found = jax.tree.map(lambda x: x.reshape(size, inner, *x.shape[1:]), many(args, tables))
        return found, jax.tree.map(lambda _: True, found)

    @jax.custom_jvp
    def single(args, tables):
        return jax.tree.map(lambda x: x[0], many([x[None] for x in args], tables))

    @single.defjvp
    def _(primals, tangents):
        raise TypeError(
            "a galaxy compressed for a range of redshifts has first derivatives only, in reverse mode (grad, jacrev); for second "
            "ones use the full galaxy, or one compressed at one redshift."
        )

    return single


def _forward(layout, metallicity, mass, hermite, segment, step, basis, table):
    """Light (galaxy, row, node), and the values at the corners (galaxy, row, 4 x node) that the derivative needs."""
    galaxies, rows, _ = mass.shape
    stars = (metallicity[:, None, :, None] * mass[:, :, None, :]).reshape(galaxies * rows, -1)
    each = lambda x: jnp.repeat(x, rows, axis=0)  # noqa: E731
    factors = _by_index(each(segment), basis, lambda matrix: matmul(stars, matrix))
    groups, shares, step = _groups(layout), each(hermite), each(step)
    light, corners = [], []
    for g, part in enumerate(_split(factors, [sum(ranks) for ranks, _ in groups])):
        found = _by_index(step[:, g], table[g], functools.partial(_to_corners, part, groups[g]))
        light.append(total(shares[:, i, g, None] * corner for i, corner in enumerate(jnp.split(found, 4, axis=-1))))
        corners.append(found)
    light, corners = (jnp.concatenate(x, axis=-1).reshape(galaxies, rows, -1) for x in (light, corners))
    return light, corners


def _backward(layout, metallicity, mass, hermite, segment, step, corners, g, basis, table):
    """Derivatives with respect to metallicity, mass and hermite, of light whose derivative is g (galaxy, row, node)."""
    galaxies, rows, n_age = mass.shape
    each = lambda x: jnp.repeat(x, rows, axis=0)  # noqa: E731
    groups, shares, step = _groups(layout), each(hermite), each(step)
    nodes = [sum(sizes) for _, sizes in groups]
    d_hermite, d_factors = [], []
    for i, (found, d_light) in enumerate(zip(_split(corners, [4 * n for n in nodes]), _split(g, nodes), strict=True)):
        d_hermite.append(jnp.stack([(c * d_light).sum((1, 2)) for c in jnp.split(found, 4, axis=-1)], axis=1))
        d_light = d_light.reshape(galaxies * rows, -1)
        d_corners = jnp.concatenate([shares[:, k, i, None] * d_light for k in range(4)], axis=-1)
        d_factors.append(_by_index(step[:, i], table[i], functools.partial(_from_corners, d_corners, groups[i])))
    d_factors = jnp.concatenate(d_factors, axis=-1)
    d_stars = _by_index(each(segment), basis, lambda matrix: _matmul_transposed(d_factors, matrix))
    n_met = metallicity.shape[1]
    of_met, mass = each(metallicity), mass.reshape(galaxies * rows, n_age)
    d_mass = total(of_met[:, i, None] * part for i, part in enumerate(jnp.split(d_stars, n_met, axis=-1)))
    d_met = matmul(d_stars * jnp.concatenate([mass] * n_met, axis=-1), spread(n_met, n_age).T)
    return d_met.reshape(galaxies, rows, -1).sum(1), d_mass.reshape(galaxies, rows, -1), jnp.stack(d_hermite, axis=-1)


def _groups(layout):
    """Ranks and sizes of the bands of each group."""
    ranks, sizes, groups = layout
    ends = np.cumsum(groups)
    return [(ranks[end - n : end], sizes[end - n : end]) for n, end in zip(groups, ends, strict=True)]


def _split(x, sizes):
    """Parts of the given sizes along the last axis."""
    return jnp.split(x, np.cumsum(sizes)[:-1], axis=-1)


def _by_index(index, table, function):
    """For each row of `function(table[index])` what belongs to the row's own index."""

    def step(i, found):
        return jnp.where((index == i)[:, None], function(table[i]), found)

    like = jax.eval_shape(function, table[0])
    return jax.lax.fori_loop(index.min(), index.max() + 1, step, jnp.zeros(like.shape, like.dtype))


def _of_bands(row, group):
    """The matrices (K, 4 x node) of a group's bands at a step."""
    parts = _split(row, [4 * k * n for k, n in zip(*group, strict=True)])
    return [x.reshape(k, -1) for x, k in zip(parts, group[0], strict=True)]


def _to_corners(factors, group, row):
    """From factors (row, K of all bands) to corners (row, 4 x node of all bands)."""
    matrices = _of_bands(row, group)
    corners = [
        jnp.split(matmul(part, m), 4, axis=-1) for part, m in zip(_split(factors, group[0]), matrices, strict=True)
    ]
    return jnp.concatenate([x for quarter in zip(*corners, strict=True) for x in quarter], axis=-1)


def _from_corners(corners, group, row):
    """The transpose of `_to_corners`."""
    quarters = [_split(x, group[1]) for x in jnp.split(corners, 4, axis=-1)]
    of_bands = [jnp.concatenate(x, axis=-1) for x in zip(*quarters, strict=True)]
    parts = [_matmul_transposed(x, m) for x, m in zip(of_bands, _of_bands(row, group), strict=True)]
    return jnp.concatenate(parts, axis=-1)


def _matmul_transposed(g, matrix):
    return jax.lax.dot_general(g, matrix, (((1,), (1,)), ((), ())), precision=jax.lax.Precision.HIGHEST)
