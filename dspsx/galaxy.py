"""GalaxySEDModel: composes the ingredients of a galaxy, and predicts what is observed of it."""

from typing import Any, final

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from dspsx._model import AbstractModel, Number, Scalar, is_concrete, param, require_single, warn
from dspsx.cosmology import Cosmology
from dspsx.dust.attenuation import DustLaw, DustModel, NoDust
from dspsx.dust.emission import DustEmission
from dspsx.filters import FilterSet
from dspsx.igm import IGM
from dspsx.light import Light
from dspsx.mass_loss import ImfMassLoss, MassLoss
from dspsx.metallicity import LognormalMDF, MetallicityModel
from dspsx.nebular import EmissionLines
from dspsx.sfh.base import StarFormationHistory
from dspsx.sfh.diffstar import DiffstarSFH
from dspsx.ssp import SSPGrid, SSPLibrary


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
    both, in the infrared. In bands lines count as delta functions, exactly, and the continuum of the gas is part of the spectrum.
    That of the dust, and of the gas where the SSP grid has ended, counts by samples of each band (`FilterSet.samples`).

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
                article = "an" if kind.__name__[0] in "AEIO" else "a"
                wanted = "an SSPGrid or another SSPLibrary" if name == "ssp" else f"{article} {kind.__name__}"
                raise TypeError(f"GalaxySEDModel.{name} must be {wanted}; got {getattr(self, name)!r}.")
        self._warn()

    def _warn(self) -> None:
        """Tell what the prediction will lack; not under a trace, where values cannot be looked at."""
        z = self.redshift
        if (
            not (isinstance(z, jax.Array) and eqx.is_inexact_array(z))
            or z.ndim
            or not all(map(is_concrete, jax.tree.leaves(self)))
        ):
            return
        if not 0 <= float(z) <= 20:
            return  # the parameter's own check says so
        self.ssp.check_use(self.filters, z)
        self.ssp.check_igm(self.igm)
        self.ssp.check_dust(*(dust for dust in (self.dust, self.foreground) if dust is not None))
        if self.dust_emission is not None:
            self.ssp.check_energy()
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

    def light(self) -> Light:
        """Observables that share what they have in common: for spectrum and magnitudes, say, `light = galaxy.light()`, then
        `light.rest_sed()` and `light.magnitudes()` in one function to be compiled. See `Light`."""
        return Light(self)

    @eqx.filter_jit
    def rest_sed(self) -> Float[Array, " wave"]:
        """Luminosity in Lsun/Hz at the rest-frame wavelengths of the SSP grid, after dust; emission lines are not drawn."""
        return self.light().rest_sed()

    @eqx.filter_jit
    def observed_sed(self, unit: str = "maggies") -> Float[Array, " wave"]:
        """Flux density f_nu at `observed_wave`, in a unit of `units.PER_MAGGIE` (maggies, nanomaggies, Jy, mJy, uJy, nJy, cgs)."""
        return self.light().observed_sed(unit)

    @eqx.filter_jit
    def fluxes(self, unit: str = "maggies") -> Float[Array, " band"]:
        """Mean flux density f_nu in each band, in a unit of `units.PER_MAGGIE`."""
        return self.light().fluxes(unit)

    @eqx.filter_jit
    def magnitudes(self) -> Float[Array, " band"]:
        """Apparent AB magnitude in each band; at z = 0 that at 10 pc. A band without any light has a finite limit, above 80."""
        return self.light().magnitudes()

    @eqx.filter_jit
    def rest_magnitudes(self) -> Float[Array, " band"]:
        """Absolute AB magnitude in each band at rest."""
        return self.light().rest_magnitudes()

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
        return self.light().line_luminosities()

    @eqx.filter_jit
    def line_fluxes(self, unit: str = "cgs") -> Float[Array, " line"]:
        """Observed flux of each emission line, after all that absorbs, in "cgs" (erg/s/cm^2), "1e-17 cgs" or "W/m2"; at z = 0
        that at 10 pc."""
        return self.light().line_fluxes(unit)

    @eqx.filter_jit
    def equivalent_widths(self) -> Float[Array, " line"]:
        """Equivalent width in Angstrom, at rest and positive in emission, of each emission line.

        The continuum is the mean of all light but lines, after dust, 1.5 % to either side of the line. Where there is none, beyond
        the spectrum or of no light at all, the width is NaN, with derivatives of zero. Raises TypeError for a compressed galaxy,
        which has no spectrum.
        """
        return self.light().equivalent_widths()

    @eqx.filter_jit
    def emission_lines(self, observed: bool = False) -> tuple[Float[Array, " line"], Float[Array, " line"]]:
        """Rest-frame wavelengths in Angstrom (vacuum) of the emission lines, and their luminosities in Lsun after the galaxy's
        own dust; with `observed` after all else that absorbs, too. Raises TypeError for a galaxy without lines."""
        return self.light().emission_lines(observed)

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
        how it compares with the exact integral for galaxies drawn at random from the whole box of the free parameters (for a
        range of redshift, derivatives by redshift too), and at worst it is within `tol` magnitudes. Parameters that are not
        free (such as `bump_wave` of a law of dust, or `scale` of an intergalactic medium) have the values that they have here:
        set these first.

        **Arguments:** `filters`, the galaxy's own unless given; `redshift`, one number (the galaxy's own unless given) or a
        pair (lowest, highest) for a table with any redshift between them; `tol` in mag; `depth`, the dimming by dust in mag
        beyond which errors count relative to the light at that depth (None: never; 10 makes a table smaller and faster);
        `n_galaxies` of the certificate.

        Raises ValueError if the tolerance cannot be met. The certificate holds for the galaxy's own dust, with its own `igm`.
        Other dust of a kind that dspsx has may be put in afterwards, where twice the tolerance was measured (and more of
        a bump that is made narrow); a class of your own, or another `igm`, is refused: compress with it.
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

    @eqx.filter_jit
    def dust_luminosity(self) -> Scalar:
        """Luminosity in Lsun that the galaxy's own dust absorbs, and emits again: of stars, of lines, and of the gas's
        continuum. What the gas absorbs of the ionising light is not in it."""
        return self.light().dust_luminosity()

    def on_the_way(self, wave: Float[Array, " wave"]) -> Float[Array, " wave"]:
        """Fraction of the light at rest-frame wavelengths in Angstrom that is left after the intergalactic medium and, at the
        observed wavelengths, the dust in the foreground."""
        left = jnp.ones_like(wave) if self.igm is None else self.igm.transmission(wave, self.redshift)
        return left if self.foreground is None else left * self.foreground.transmission(wave * (1.0 + self.redshift))
