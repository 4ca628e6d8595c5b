"""BandSSP and BandTable: the light of a few bands, at the few wavelengths that dust needs to be known at."""

from typing import final

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from dspsx._model import Number, data, is_concrete
from dspsx._numerics import matmul, sum_of_products
from dspsx.compressed.certificate import Certificate, kinds
from dspsx.compressed.contraction import table_light
from dspsx.compressed.expansion import expand
from dspsx.filters import FilterSet
from dspsx.ssp import SSPLibrary


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
    glow: Float[Array, "part node"] | None = data(None, convert=False)
    gas_class: str = eqx.field(static=True, default="")

    def sampling(self, redshift):
        return self.wave

    def has_gas(self, lines):
        return self.glow is not None and type(lines).__name__ == self.gas_class

    def gas(self, lines, parts, redshift):
        return matmul(parts, self.glow)

    def integrate(self, weights, redshift=0.0):
        return matmul(weights.reshape(*weights.shape[:-2], -1), self.flux.reshape(-1, self.wave.size))

    def integrate_separable(self, metallicity, mass, redshift=0.0):
        flux = self.flux.swapaxes(0, 1).reshape(self.lg_age.size, -1)
        return sum_of_products(metallicity, matmul(mass, flux))

    def band_average(self, filters, light, redshift):
        raise TypeError("an EnergySSP knows the light of no band.")

    def spectrum_wave(self):
        raise TypeError("an EnergySSP has no spectrum.")


_NO_ENERGY = (
    "this galaxy was compressed without dust emission, and does not know how much its dust absorbs: compress the full galaxy "
    "again, with its dust_emission."
)


class _Bands(SSPLibrary):
    """What the light of bands at one redshift and at any have in common."""

    sizes: eqx.AbstractVar[tuple[int, ...]]
    order: eqx.AbstractVar[tuple[int, ...]]
    digest: eqx.AbstractVar[str]
    certificate: eqx.AbstractVar[Certificate]
    glow: eqx.AbstractVar[Float[Array, "_ part _"] | None]
    gas_class: eqx.AbstractVar[str]
    ends: eqx.AbstractVar[tuple[float, float] | None]

    def brief(self) -> str:
        """The certificate, for printing a model that holds it."""
        return f"{type(self).__name__}({self.certificate.brief()})"

    def spectrum_wave(self):
        raise TypeError(
            "this galaxy is compressed to the light in its bands and has no spectrum; ask the full galaxy that it was "
            "compressed from."
        )

    def has_gas(self, lines):
        return self.glow is not None and type(lines).__name__ == self.gas_class

    def gas_ends(self):
        return self.ends

    def band_average(self, filters, light, redshift):
        self._check_bands(filters)
        self.check_range(redshift)
        of_band = np.repeat(np.eye(len(self.sizes))[list(self.order)], self.sizes, axis=0)
        of_band = np.pad(of_band, [(0, light.shape[-1] - len(of_band)), (0, 0)])
        return matmul(light, jnp.asarray(of_band, light.dtype))

    def check_use(self, filters, redshift):
        self._check_bands(filters)
        if all(map(is_concrete, jax.tree.leaves(filters))) and filters.digest() != self.digest:
            raise ValueError(
                "the curves of the galaxy's filters are not those that it was compressed for; compress the full galaxy again."
            )
        self.check_range(redshift)

    def check_igm(self, igm):
        parts = self._known("igm")
        if igm is not None and "/".join(kinds(igm)) not in parts:
            raise ValueError(
                f"this galaxy was compressed without {'/'.join(kinds(igm))}, and has no nodes where it absorbs: put it into the "
                "full galaxy, and compress that again."
            )
        if igm is None and parts:
            raise ValueError(
                f"this galaxy was compressed with igm={parts[0]}, and has its nodes where that leaves light: take it out of the "
                "full galaxy, and compress that again."
            )

    def check_dust(self, *dust):
        known = {kind for name in ("dust", "foreground") for part in self._known(name) for kind in part.split("/")}
        for kind, is_ours in {pair for part in dust for pair in kinds(part).items()}:
            if not is_ours and kind not in known:
                raise ValueError(
                    f"this galaxy was compressed without {kind}, for which its nodes may be too few: put it into the full "
                    "galaxy, and compress that again."
                )

    def _known(self, name: str) -> list[str]:
        """The classes, and of what they are made, that the galaxy was compressed with by the name of a field."""
        parts = (part.split("=") for part in self.certificate.model.split(", "))
        return [kind for field, kind in parts if field == name]

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
    dust lets through is the mean in the band. A galaxy's weights are contracted with `basis` first, which leaves a few numbers for
    all bands, and these with `table`. The first two derivatives with respect to redshift are exact, and cost nothing where they
    are not asked for, nor do the mixed ones with other parameters; a third raises TypeError.

    **Fields:** `wave` (node,) rest-frame Angstrom; `basis` (age, met, K) and `table` (K, node), whose product is in Lsun/Hz per
    Msun; `slope` and `bend` (age, met, node), the first two derivatives of that with respect to redshift, not factorised; `sizes`,
    nodes of each band, and `order`, the bands; `digest` of the filters; `certificate`. For a galaxy with dust emission, the nodes
    after those of the bands collect the light of all wavelengths, as in `EnergySSP`. `glow` (series, part, node), for a galaxy
    whose gas has a continuum made of a few spectra: value and derivatives of these; `gas_class`, the class of its lines; `ends` of
    the spectrum, if bands see more of the gas.
    """

    sizes: tuple[int, ...] = eqx.field(static=True)
    order: tuple[int, ...] = eqx.field(static=True)
    digest: str = eqx.field(static=True)
    certificate: Certificate
    wave: Float[Array, " node"] = data()
    lg_age: Float[Array, " age"] = data()
    lgmet: Float[Array, " met"] = data()
    basis: Float[Array, "age met K"] = data()
    table: Float[Array, "K node"] = data()
    slope: Float[Array, "age met node"] = data()
    bend: Float[Array, "age met node"] = data()
    glow: Float[Array, "3 part node"] | None = data(None, convert=False)
    gas_class: str = eqx.field(static=True, default="")
    ends: tuple[float, float] | None = eqx.field(static=True, default=None)

    def sampling(self, redshift):
        return self.wave

    def bolometric(self):
        n = sum(self.sizes)
        if n == self.wave.size:
            raise TypeError(_NO_ENERGY)
        return self, jnp.asarray(np.arange(self.wave.size) >= n, self.wave.dtype)

    def gas(self, lines, parts, redshift):
        assert self.glow is not None
        value, *derivatives = self.glow
        return self._light(parts, jnp.eye(len(value), dtype=value.dtype), value, *derivatives, redshift=redshift)

    def integrate(self, weights, redshift=0.0):
        weights = weights.swapaxes(-1, -2).reshape(*weights.shape[:-2], -1)
        basis, slope, bend = (x.reshape(weights.shape[-1], -1) for x in (self.basis, self.slope, self.bend))
        return self._light(weights, basis, self.table, slope, bend, redshift=redshift)

    def integrate_separable(self, metallicity, mass, redshift=0.0):
        self.check_range(redshift)
        redshift = jnp.asarray(redshift, mass.dtype)
        light = expand(metallicity, mass, redshift, self.basis, self.table, self.slope, self.bend)
        return _or_nan(light, redshift, *self.certificate.redshift)

    def _light(self, weights, basis, table, *derivatives, redshift):
        """Of stars that differ in one thing alone: all in one "metallicity"."""
        self.check_range(redshift)
        redshift, one = jnp.asarray(redshift, weights.dtype), jnp.ones(1, weights.dtype)
        matrices = (x[:, None] for x in derivatives)
        light = expand(one, weights, redshift, basis[:, None], table, *matrices)
        return _or_nan(light, redshift, *self.certificate.redshift)


@final
class BandTable(_Bands):
    r"""Light of simple stellar populations in bands at any redshift of a range.

    The range is cut into segments of :math:`u = \ln(1 + z)`. In each, a galaxy's weights are contracted with `basis`, which
    leaves a few numbers for each group of neighbouring bands; these with `table`, the cubic Hermite interpolation in u of the
    exact integrals and their exact derivatives. The distance is not in it. All redshifts of a segment share their nodes, since
    its bands see nearly the same wavelengths. Galaxies evaluated together are put in order of redshift, to share the matrices:
    the more there are in a batch (or the closer in redshift, as `dspsx.predict` has them), the faster.

    **Fields:** `wave` (segment, node) rest-frame Angstrom; `basis` (segment, age, met, K of all groups); `table`, for each
    group (segment x redshift, 2 K, node): at both ends of every step of u in a segment what the factors give to the nodes of its
    bands, in Lsun/Hz, and after it to their derivatives per step; `groups`, the number of bands in each; `order`, the bands as they
    come, and `sizes`, the number of nodes of each; `origin` of u and `width` of a segment; `digest` of the filters; `certificate`;
    `energy`, for a galaxy with dust emission; `glow` (segment, part, K), the basis of the gas's continuum, `gas_class` and `ends`
    as in `BandSSP`.
    """

    origin: float = eqx.field(static=True)
    width: float = eqx.field(static=True)
    groups: tuple[int, ...] = eqx.field(static=True)
    order: tuple[int, ...] = eqx.field(static=True)
    sizes: tuple[int, ...] = eqx.field(static=True)
    digest: str = eqx.field(static=True)
    certificate: Certificate
    wave: Float[Array, "segment node"] = data()
    lg_age: Float[Array, " age"] = data()
    lgmet: Float[Array, " met"] = data()
    basis: Float[Array, "segment age met K"] = data()
    table: tuple[Float[Array, "_ _ _"], ...] = data(convert=False)
    glow: Float[Array, "segment part K"] | None = data(None, convert=False)
    gas_class: str = eqx.field(static=True, default="")
    ends: tuple[float, float] | None = eqx.field(static=True, default=None)
    energy: EnergySSP | None = None

    def bolometric(self):
        if self.energy is None:
            raise TypeError(_NO_ENERGY)
        return self.energy, jnp.ones_like(self.energy.wave)

    def _place(self, redshift):
        """u in units of a segment, the segment, and step and fraction of the step in each group."""
        u = (jnp.log1p(redshift) - self.origin) / self.width
        u = jnp.where(jnp.isnan(u), 0.0, u)  # the light will be NaN; other galaxies find their places by this one
        n = np.array([len(table) // len(self.wave) - 1 for table in self.table])
        step = jnp.floor(jax.lax.stop_gradient(u) * jnp.asarray(n, u.dtype))
        step = jnp.clip(step, 0, jnp.asarray(n * len(self.wave) - 1, u.dtype))
        x = u * jnp.asarray(n, u.dtype) - step
        step = step.astype(np.int32)
        return u, step[0] // int(n[0]), step, x

    def sampling(self, redshift):
        _, segment, _, _ = self._place(jnp.asarray(redshift, self.wave.dtype))
        return jax.lax.stop_gradient(self.wave)[segment]

    def integrate(self, weights, redshift=0.0):
        # as one "metallicity" of age x met stars
        lead, stars = weights.shape[:-2], weights.swapaxes(-1, -2).reshape(-1, weights.shape[-1] * weights.shape[-2])
        basis = self.basis.reshape(len(self.wave), stars.shape[1], -1)
        return self._light(basis, jnp.ones(1, stars.dtype), stars, redshift).reshape(*lead, -1)

    def integrate_separable(self, metallicity, mass, redshift=0.0):
        lead, mass = mass.shape[:-1], mass.reshape(-1, mass.shape[-1])
        basis = self.basis.reshape(len(self.wave), metallicity.size * mass.shape[1], -1)
        return self._light(basis, metallicity, mass, redshift).reshape(*lead, -1)

    def gas(self, lines, parts, redshift):
        return self._light(self.glow, jnp.ones(1, parts.dtype), parts, redshift)

    def _light(self, basis, metallicity, mass, redshift):
        self.check_range(redshift)
        redshift = jnp.asarray(redshift, self.wave.dtype)
        u, segment, step, x = self._place(redshift)
        tables = jax.lax.stop_gradient((basis, self.table))
        light = table_light((u, segment, step), metallicity, mass, x, tables)
        return _or_nan(light, redshift, *self.certificate.redshift)
