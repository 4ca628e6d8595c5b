"""GalaxySEDModel: composes the ingredients of a galaxy, and predicts what is observed of it."""

from typing import Any, final

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from dspsx import units
from dspsx._model import AbstractModel, Number, Scalar, is_concrete, param, require_single, warn
from dspsx._numerics import safe_log10
from dspsx.cosmology import Cosmology
from dspsx.dust.attenuation import DustLaw, DustModel, NoDust
from dspsx.dust.emission import DustEmission
from dspsx.filters import FilterSet
from dspsx.igm import IGM
from dspsx.mass_loss import ImfMassLoss, MassLoss
from dspsx.metallicity import LognormalMDF, MetallicityModel
from dspsx.nebular import EmissionLines
from dspsx.sfh.base import StarFormationHistory
from dspsx.sfh.diffstar import DiffstarSFH
from dspsx.ssp import SSPGrid, SSPLibrary, widths_in_hertz

#: Angstrom. Where what dust absorbs of the gas's continuum is summed up.
_CONTINUUM = np.geomspace(912.0, 3e4, 96)


def _lsst() -> FilterSet:
    return FilterSet.load("lsst_*")


@final
class GalaxySEDModel(AbstractModel):
    r"""A galaxy: stars of every age and metallicity, dust in front of them, a redshift and the bands it is observed in.

    .. math:: L_\nu(\lambda) = \sum_k T_k(\lambda) \sum_{Z, a} s_k(a) \, m_{Z, a} \, f_\nu(Z, a, \lambda)

    with m the mass formed at each point of the SSP grid (`weights`), f the grid's spectra, and T_k, s_k the dust's
    screens (one, with s = 1, for a law of wavelength alone). Every method is differentiable with respect to every
    parameter; each describes ONE galaxy: batch them with `dspsx.stack` and `eqx.filter_vmap`.

    To this `lines` adds the light of ionised gas, behind the same dust, and `dust_emission` what the dust has absorbed of
    both, in the infrared. In bands lines count as delta functions, exactly, and the continua of gas and dust by samples of each
    band (`FilterSet.samples`), not of the SSP grid, which may be coarse there or have ended.

    Between the galaxy and us, and of observed light only, `igm` absorbs, and `foreground`, a law of dust at observed
    wavelengths, for data that are not corrected for the Milky Way (A_V = 3.1 E(B-V)).

    At z = 0 apparent magnitudes are those at 10 pc, the absolute ones. Each method is compiled once for all galaxies built
    of the same classes, also when it is called outside `jax.jit`.
    """

    ssp: SSPLibrary = eqx.field(default_factory=SSPGrid.default, kw_only=True)
    sfh: StarFormationHistory = eqx.field(default_factory=DiffstarSFH, kw_only=True)
    metallicity: MetallicityModel = eqx.field(default_factory=LognormalMDF, kw_only=True)
    dust: DustModel = eqx.field(default_factory=NoDust, kw_only=True)
    dust_emission: DustEmission | None = eqx.field(default=None, kw_only=True)
    lines: EmissionLines | None = eqx.field(default=None, kw_only=True)
    igm: IGM | None = eqx.field(default=None, kw_only=True)
    foreground: DustLaw | None = eqx.field(default=None, kw_only=True)
    mass_loss: MassLoss = eqx.field(default_factory=ImfMassLoss, kw_only=True)
    filters: FilterSet = eqx.field(default_factory=_lsst, kw_only=True)
    cosmology: Cosmology = eqx.field(default_factory=Cosmology, kw_only=True)
    redshift: Scalar = param(0.1, bounds=(0.0, 20.0), doc="redshift", free=False)

    def __check_init__(self):
        kinds: dict[str, Any] = {
            "ssp": SSPLibrary,
            "sfh": StarFormationHistory,
            "metallicity": MetallicityModel,
            "dust": DustModel,
            "dust_emission": DustEmission,
            "lines": EmissionLines,
            "igm": IGM,
            "foreground": DustLaw,
            "mass_loss": MassLoss,
            "filters": FilterSet,
            "cosmology": Cosmology,
        }
        for name, kind in kinds.items():
            if getattr(self, name) is None and name in ("dust_emission", "lines", "igm", "foreground"):
                continue
            if not isinstance(getattr(self, name), kind):
                wanted = "an SSPGrid or another SSPLibrary" if name == "ssp" else f"a {kind.__name__}"
                raise TypeError(f"GalaxySEDModel.{name} must be {wanted}; got {getattr(self, name)!r}.")
        self._warn()

    def _warn(self) -> None:
        """Tell what the prediction will lack; not under a trace, where values cannot be looked at."""
        z = self.redshift
        if not eqx.is_inexact_array(z) or z.ndim or not all(map(is_concrete, jax.tree.leaves(self))):
            return
        if not 0 <= float(z) <= 20:
            return  # the parameter's own check says so
        self.ssp.check_use(self.filters, z)
        self.ssp.check_igm(self.igm)
        if self.lines is not None:
            self.lines.check_use(self.ssp)
        t_last = float(self.sfh.known_until())
        if t_last < float("inf") and (t_obs := float(self.t_obs)) > t_last * (1 + 1e-4):
            warn(
                f"the star formation history ends at {t_last:g} Gyr, before the galaxy is observed at {t_obs:.4g} Gyr: its "
                "last rate is held."
            )

    @property
    @eqx.filter_jit
    def t_obs(self) -> Scalar:
        """Age of the universe in Gyr at the galaxy's redshift."""
        require_single(self)
        return self.cosmology.age(self.redshift)

    @property
    def observed_wave(self) -> Float[Array, " wave"]:
        """Observed wavelengths in Angstrom of the SSP grid at the galaxy's redshift."""
        return self.ssp.spectrum_wave() * (1.0 + self.redshift)

    @eqx.filter_jit
    def weights(self) -> Float[Array, "met age"]:
        """Mass formed in Msun at each metallicity and age of the SSP grid."""
        return self.metallicity.joint_weights(self.ssp.lgmet, self.ssp.lg_age, self.sfh, self.t_obs)

    @eqx.filter_jit
    def rest_sed(self) -> Float[Array, " wave"]:
        """Luminosity in Lsun/Hz at the rest-frame wavelengths of the SSP grid, after dust; emission lines are not drawn."""
        wave, light = self.ssp.spectrum_wave(), self._starlight(0.0)
        return light + self._glow(wave) if self._glows else light

    @eqx.filter_jit
    def observed_sed(self, unit: str = "maggies") -> Float[Array, " wave"]:
        """Flux density f_nu at `observed_wave`, in a unit of `units.PER_MAGGIE` (maggies, nanomaggies, Jy, mJy, uJy, nJy, cgs)."""
        sed = self.rest_sed() * self.on_the_way(self.ssp.spectrum_wave())
        return sed * (self._dimming() / units.AB_LSUN_HZ) * units.per_maggie(unit)

    @eqx.filter_jit
    def fluxes(self, unit: str = "maggies") -> Float[Array, " band"]:
        """Mean flux density f_nu in each band, in a unit of `units.PER_MAGGIE`."""
        luminosity = self._band_luminosity(self.redshift, observed=True)
        return luminosity * (self._dimming() / units.AB_LSUN_HZ) * units.per_maggie(unit)

    @eqx.filter_jit
    def magnitudes(self) -> Float[Array, " band"]:
        """Apparent AB magnitude in each band; at z = 0 that at 10 pc. A band without any light has a finite limit, above 80."""
        return -2.5 * safe_log10(self.fluxes())

    @eqx.filter_jit
    def rest_magnitudes(self) -> Float[Array, " band"]:
        """Absolute AB magnitude in each band at rest."""
        luminosity = self._band_luminosity(0.0, observed=False)
        return -2.5 * safe_log10(luminosity / units.AB_LSUN_HZ)

    @eqx.filter_jit
    def mass_formed(self) -> Scalar:
        """Mass of all stars ever formed, in Msun; what survives is less."""
        return self.sfh.age_weights(self.ssp.lg_age, self.t_obs).sum()

    @eqx.filter_jit
    def mass_surviving(self) -> Scalar:
        """Mass in Msun that is left of `mass_formed`, as `mass_loss` has it: by default living stars and remnants, for a
        Chabrier IMF."""
        left = self.mass_loss.surviving(self.ssp.lgmet, self.ssp.lg_age)
        return (self.weights() * left).sum()

    @eqx.filter_jit
    def line_luminosities(self) -> Float[Array, " line"]:
        """Luminosity in Lsun of each emission line, of `lines.line_names` where it names them, after the galaxy's own dust."""
        return self.emission_lines()[1]

    @eqx.filter_jit
    def line_fluxes(self, unit: str = "cgs") -> Float[Array, " line"]:
        """Observed flux of each emission line, after all that absorbs, in "cgs" (erg/s/cm^2), "1e-17 cgs" or "W/m2"; at z = 0
        that at 10 pc."""
        luminosity = self.emission_lines(observed=True)[1]
        distance = self._dimming() / (1.0 + self.redshift)
        return luminosity * distance * (units.LINE_AT_10PC * units.per_cgs_line(unit))

    @eqx.filter_jit
    def equivalent_widths(self) -> Float[Array, " line"]:
        """Equivalent width in Angstrom, at rest and positive in emission, of each emission line.

        The continuum is the mean of the stars' light after dust 1.5 % to either side of the line. Raises TypeError for a
        compressed galaxy, which has no spectrum.
        """
        wave, luminosity = self.emission_lines()
        at, sed = self.ssp.spectrum_wave(), self.rest_sed()
        continuum = 0.5 * (jnp.interp(0.985 * wave, at, sed) + jnp.interp(1.015 * wave, at, sed))
        return luminosity * wave * wave / (units.C_ANGSTROM * continuum)

    @eqx.filter_jit
    def emission_lines(self, observed: bool = False) -> tuple[Float[Array, " line"], Float[Array, " line"]]:
        """Rest-frame wavelengths in Angstrom (vacuum) of the emission lines, and their luminosities in Lsun after the galaxy's
        own dust; with `observed` after all else that absorbs, too. Raises TypeError for a galaxy without lines."""
        if self.lines is None:
            raise TypeError("this galaxy has no emission lines: build it with lines=NebularLines(ssp).")
        wave, luminosity, transmission = self._line_light(self.lines)
        luminosity = (luminosity * transmission).sum(0)
        return wave, luminosity * self.on_the_way(wave) if observed else luminosity

    def _line_light(
        self, lines: EmissionLines
    ) -> tuple[Float[Array, " line"], Float[Array, "screen line"], Float[Array, "screen line"]]:
        """Wavelengths of the lines, their luminosities behind each screen, and the screens' transmission."""
        share, _ = self.dust.checked_screens(self.ssp.sampling(self.redshift), self.ssp.lg_age)
        metallicity, mass = self._stars(share)
        if metallicity.shape[1] == 1:
            wave, luminosity = lines.luminosities_separable(self.ssp, metallicity[:, 0], mass)
        else:
            wave, luminosity = lines.luminosities(self.ssp, metallicity[None] * mass[:, None, :])
        return wave, luminosity, self.dust.checked_screens(wave, self.ssp.lg_age)[1]

    def sfr(self, timescale: Number = 0.1) -> Scalar:
        """Star formation rate in Msun/yr, averaged over the last `timescale` Gyr (0.1: 100 Myr); 0: at this moment.

        Raises ValueError for a negative timescale or more than one.
        """
        time = jnp.asarray(timescale, self.redshift.dtype)
        if time.ndim or (is_concrete(time) and not float(time) >= 0):
            raise ValueError(
                f"sfr: timescale must be one number of Gyr, zero or more; got {timescale}, shape {time.shape}."
            )
        return self._sfr(time)

    @eqx.filter_jit
    def _sfr(self, timescale: Scalar) -> Scalar:
        some = timescale > 0
        mean = self.sfh.mean_sfr(self.t_obs, jnp.where(some, timescale, 0.1))
        return jnp.where(some, mean, self.sfh.sfr_now(self.t_obs))

    def compress(
        self,
        *,
        filters: FilterSet | None = None,
        redshift: float | tuple[float, float] | None = None,
        tol: float = 1e-3,
        depth: float | None = 50.0,
        n_galaxies: int = 1000,
        seed: int = 0,
        progress: bool | None = None,
    ) -> "GalaxySEDModel":
        """The same galaxy on an SSP library that holds the light of its bands alone: microseconds instead of spectra.

        `magnitudes()`, `fluxes()`, `weights()`, `sfr()` ... are called as before, with the same parameters and gradients; only
        the wavelengths at which dust is evaluated have changed. The approximation is certified: `small.ssp.certificate` says
        how it compares with the exact integral for galaxies drawn at random from the whole parameter box, and at worst it is
        within `tol` magnitudes.

        **Arguments:** `filters`, the galaxy's own unless given; `redshift`, one number (the galaxy's own unless given) or a
        pair (lowest, highest) for a table with any redshift between them; `tol` in mag; `depth`, the dimming by dust in mag
        beyond which errors count relative to the light at that depth (None: never; 10 makes a table smaller and faster);
        `n_galaxies` of the certificate.

        Raises ValueError if the tolerance cannot be met. Other dust of a kind that dspsx has may be put in afterwards; the
        certificate holds for the galaxy's own. Another `igm` may not, since its edges need nodes of their own.
        """
        from dspsx.compressed import compress

        return compress(
            self,
            filters=filters,
            redshift=redshift,
            tol=tol,
            depth=depth,
            n_galaxies=n_galaxies,
            seed=seed,
            progress=progress,
        )

    def _band_luminosity(self, redshift: Number, observed: bool) -> Float[Array, " band"]:
        light = self._starlight(redshift)
        if observed:
            light = light * self.on_the_way(self.ssp.sampling(redshift))
        bands = self.ssp.band_average(self.filters, light, redshift)
        if self.lines is not None:
            bands = bands + self.filters.line_average(*self.emission_lines(observed), redshift)
        if self._glows:
            seen, weight = self.filters.samples()
            wave = seen.ravel() / (1.0 + jnp.asarray(redshift, seen.dtype))
            glow = self._glow(wave)
            glow = glow * self.on_the_way(wave) if observed else glow
            bands = bands + (glow.reshape(seen.shape) * weight).sum(-1)
        return bands

    def _starlight(self, redshift: Number) -> Float[Array, " wave"]:
        """Luminosity in Lsun/Hz of the stars after dust, at the wavelengths that the SSP library samples."""
        share, transmission = self.screens(self.ssp.sampling(redshift))
        return (self._behind(share, self.ssp, redshift) * transmission).sum(0)

    def _behind(
        self, share: Float[Array, "screen age"], ssp: SSPLibrary, redshift: Number
    ) -> Float[Array, "screen wave"]:
        """Light of the stars behind each screen, at the wavelengths of a library."""
        metallicity, mass = self._stars(share)
        if metallicity.shape[1] == 1:
            return ssp.integrate_separable(metallicity[:, 0], mass, redshift)
        return ssp.integrate(metallicity[None] * mass[:, None, :], redshift)

    def screens(self, wave: Float[Array, " wave"]) -> tuple[Float[Array, "screen age"], Float[Array, "screen wave"]]:
        """What the galaxy's own dust and gas let through of its stars' light: share of each age behind each screen, and the
        screens' transmission at rest-frame wavelengths in Angstrom."""
        share, transmission = self.dust.checked_screens(wave, self.ssp.lg_age)
        left = None if self.lines is None else self.lines.transmission(wave)
        return share, transmission if left is None else transmission * left[None, :]

    @property
    def _glows(self) -> bool:
        """Whether there is light that neither stars nor lines emit."""
        return self.dust_emission is not None or (self.lines is not None and self.lines.has_continuum)

    def _glow(self, wave: Float[Array, " wave"]) -> Float[Array, " wave"]:
        """Luminosity in Lsun/Hz of the gas's continuum, after dust, and of the dust."""
        glow = jnp.zeros_like(wave)
        if self.lines is not None and self.lines.has_continuum:
            share, transmission = self.dust.checked_screens(wave, self.ssp.lg_age)
            glow = glow + (self._continuum(share, wave) * transmission).sum(0)
        if self.dust_emission is not None:
            glow = glow + self.dust_luminosity() * self.dust_emission.spectrum(wave)
        return glow

    def _continuum(self, share: Float[Array, "screen age"], wave: Float[Array, " wave"]) -> Any:
        """Luminosity in Lsun/Hz of the gas behind each screen of dust."""
        assert self.lines is not None
        metallicity, mass = self._stars(share)
        if metallicity.shape[1] == 1:
            return self.lines.continuum_separable(self.ssp, metallicity[:, 0], mass, wave)
        return self.lines.continuum(self.ssp, metallicity[None] * mass[:, None, :], wave)

    @eqx.filter_jit
    def dust_luminosity(self) -> Scalar:
        """Luminosity in Lsun that the galaxy's own dust absorbs, and emits again: of stars, of lines, and of the gas's
        continuum (this by its values at 96 wavelengths). What the gas absorbs of the ionising light is not in it."""
        ssp, width = self.ssp.bolometric()
        wave = ssp.sampling(self.redshift)
        share, left = self.dust.checked_screens(wave, self.ssp.lg_age)
        light = self._behind(share, ssp, self.redshift)
        gas = None if self.lines is None else self.lines.transmission(wave)
        light = light if gas is None else light * gas[None, :]
        absorbed = (light * (1.0 - left) * width[None, :]).sum()
        if self.lines is not None:
            _, light, left = self._line_light(self.lines)
            absorbed = absorbed + (light * (1.0 - left)).sum()
        if self.lines is not None and self.lines.has_continuum:
            wave = jnp.asarray(_CONTINUUM, wave.dtype)
            share, left = self.dust.checked_screens(wave, self.ssp.lg_age)
            absorbed = absorbed + (self._continuum(share, wave) * (1.0 - left) * widths_in_hertz(wave)[None, :]).sum()
        return absorbed

    def _stars(self, share: Float[Array, "screen age"]) -> tuple[Float[Array, "met #age"], Float[Array, "screen age"]]:
        """Distribution of metallicity, and mass formed in Msun of each age behind each screen of dust."""
        metallicity = self.metallicity.checked_weights(self.ssp.lgmet, self.ssp.lg_age, self.sfh, self.t_obs)
        return metallicity, self.sfh.age_weights(self.ssp.lg_age, self.t_obs)[None, :] * share

    def on_the_way(self, wave: Float[Array, " wave"]) -> Float[Array, " wave"]:
        """Fraction of the light at rest-frame wavelengths in Angstrom that is left after the intergalactic medium and, at the
        observed wavelengths, the dust in the foreground."""
        left = jnp.ones_like(wave) if self.igm is None else self.igm.transmission(wave, self.redshift)
        return left if self.foreground is None else left * self.foreground.transmission(wave * (1.0 + self.redshift))

    def _dimming(self) -> Scalar:
        return self.cosmology.dimming(self.redshift)
