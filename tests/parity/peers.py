"""What the peers say: run by the `peer` fixture in a process of its own, numpy in, numpy out.

Importing dsps switches x64 on for the whole process, which is why. Every function takes many galaxies at once.
"""

import functools

import numpy as np


def _jax64():
    """JAX in float64, which diffmah and diffstar, unlike dsps, leave to the user."""
    import jax

    jax.config.update("jax_enable_x64", True)
    return jax


def _numpy(tree):
    return _jax64().tree.map(np.asarray, tree)


@functools.cache
def _rest_seds():
    from dsps import calc_rest_sed_sfh_table_lognormal_mdf

    jax = _jax64()

    def one(t_table, galaxy, lgmet, lg_age, flux):
        sfr, mean, scatter, t_obs = galaxy
        args = (t_table, sfr, mean, scatter, lgmet, lg_age, flux, t_obs)
        return calc_rest_sed_sfh_table_lognormal_mdf(*args)._asdict()

    return jax.jit(lambda t, galaxies, *grid: jax.lax.map(lambda galaxy: one(t, galaxy, *grid), galaxies))


def dsps_rest_seds(t_table, sfr, lgmet, scatter, t_obs, ssp_lgmet, ssp_lg_age, ssp_flux):
    """calc_rest_sed_sfh_table_lognormal_mdf of galaxies that share a table of times: sfr (gal, t), the rest (gal,)."""
    return _numpy(_rest_seds()(t_table, (sfr, lgmet, scatter, t_obs), ssp_lgmet, ssp_lg_age, ssp_flux))


def dsps_rest_mags(wave, seds, filter_waves, transmissions):
    """calc_rest_mag of each SED (sed, wave) in each band (band, point): (sed, band)."""
    from dsps import calc_rest_mag

    jax = _jax64()
    per_sed = jax.jit(jax.vmap(calc_rest_mag, in_axes=(None, 0, None, None)))
    mags = [per_sed(wave, seds, w, t) for w, t in zip(filter_waves, transmissions, strict=True)]
    return np.stack(mags, axis=-1)


def dsps_obs_mags(wave, seds, filter_waves, transmissions, redshifts):
    """calc_obs_mag in dsps's own Planck15 of SEDs (redshift, sed, wave): magnitudes likewise, and the cosmology."""
    from dsps import calc_obs_mag
    from dsps.cosmology import PLANCK15

    jax = _jax64()

    def one(sed, z, w, t):
        return calc_obs_mag(wave, sed, w, t, z, *PLANCK15)

    per_sed = jax.vmap(one, in_axes=(0, None, None, None))
    per_z = jax.jit(jax.vmap(per_sed, in_axes=(0, 0, None, None)))
    mags = [per_z(seds, redshifts, w, t) for w, t in zip(filter_waves, transmissions, strict=True)]
    return np.stack(mags, axis=-1), PLANCK15._asdict()


def diffmah_histories(params, times, lgt0):
    """diffmah.mah_singlehalo of many halos, params {name: (halo,)}, times (halo, t): dM/dt and log10 M (halo, t)."""
    from diffmah import mah_singlehalo
    from diffmah.diffmah_kernels import DiffmahParams

    jax = _jax64()
    return _numpy(jax.vmap(mah_singlehalo, in_axes=(0, 0, None))(DiffmahParams(**params), times, lgt0))


def diffstar_histories(sfh_params, mah_params, times, lgt0, fb):
    """diffstar.calc_sfh_singlegal of many galaxies, parameters {name: (gal,)}, times (gal, t): SFR (gal, t)."""
    from diffmah.diffmah_kernels import DiffmahParams
    from diffstar import calc_sfh_singlegal
    from diffstar.defaults import DEFAULT_DIFFSTAR_PARAMS

    jax = _jax64()

    def one(sfh, mah, t):
        return calc_sfh_singlegal(sfh, mah, t, lgt0=lgt0, fb=fb)

    kind = type(DEFAULT_DIFFSTAR_PARAMS)
    return _numpy(jax.vmap(one)(kind(**sfh_params), DiffmahParams(**mah_params), times))


def peer_bounds():
    """The bounds that diffmah and diffstar give their parameters."""
    from diffmah.diffmah_kernels import MAH_PBOUNDS
    from diffstar.kernels.main_sequence_kernels import MS_PARAM_BOUNDS_PDICT
    from diffstar.kernels.quenching_kernels import Q_PARAM_BOUNDS_PDICT

    return MAH_PBOUNDS._asdict(), {**MS_PARAM_BOUNDS_PDICT, **Q_PARAM_BOUNDS_PDICT}


def dsps_dust(law, wave_micron, av, bump, delta, bump_wave, bump_width, floor):
    """A law of dsps.dust.att_curves, parameters (draw,): k, A and the transmission with a floor, (draw, wave) each.

    The centre and the width of the bump are in micron. `calzetti00` ignores bump and delta.
    """
    from dsps.dust import att_curves

    jax = _jax64()

    def one(av, bump, delta, bump_wave, bump_width, floor):
        if law == "calzetti00":
            k = att_curves.calzetti00_k_lambda(wave_micron)
            attenuation = att_curves.calzetti00_att_curve(wave_micron, av)
        else:
            args = (bump, delta, bump_wave, bump_width)
            k = getattr(att_curves, f"{law}_k_lambda")(wave_micron, *args)
            curve = {"noll09": att_curves.noll09_k_att_curve, "sbl18": att_curves.sbl18_k_att_curve}[law]
            attenuation = curve(wave_micron, av, *args)
        return k, attenuation, att_curves._frac_transmission_from_k_lambda(k, av, floor)

    return _numpy(jax.vmap(one)(av, bump, delta, bump_wave, bump_width, floor))


def dsps_imf(imf, lg_age_yr):
    """Surviving mass and remnants per mass formed."""
    from dsps.imf import remnant_mass, surviving_mstar

    name = f"{imf.upper()}_PARAMS"
    surviving = surviving_mstar.surviving_mstar(lg_age_yr, **getattr(surviving_mstar, name))
    return np.asarray(surviving), np.asarray(remnant_mass.remnant_mass(lg_age_yr, **getattr(remnant_mass, name)))


def dsps_mzr(pivot, params, lg_mass, t):
    """log10 Z of galaxies with parameters (gal,) by our names."""
    from dsps.metallicity import mzr, umzr

    names = ("y0", "x0", "k", "slope_lo", "slope_hi", "c0_y", "c1_y", "tlook_c", "c0_slope", "c1_slope")
    module = umzr if pivot == "fixed" else mzr
    if pivot == "fixed":
        names = tuple(n for n in names if n != "tlook_c")
    jax = _jax64()
    return np.asarray(jax.vmap(module.mzr_model)(lg_mass, t, *(params[n] for n in names)))


def dsps_lgmet_table(t_table, lgmet_table, scatter, ssp_lgmet, ssp_lg_age, t_obs):
    """Weights (met, age) of a metallicity history."""
    from dsps import calc_lgmet_weights_from_lgmet_table

    return np.asarray(calc_lgmet_weights_from_lgmet_table(t_table, lgmet_table, scatter, ssp_lgmet, ssp_lg_age, t_obs))


def dsps_burst(params, smooth, lg_age):
    """Age weights with a burst."""
    from dsps.sfh import diffburst

    return np.asarray(diffburst.calc_bursty_age_weights(diffburst.BurstParams(*params), smooth, lg_age))


def dsps_kriek_conroy(micron, av, delta):
    """Attenuation of a Noll et al. curve with the bump that dsps derives from the slope."""
    from dsps.dust import att_curves

    bump = att_curves._get_eb_from_delta(delta)
    return np.asarray(av * att_curves.noll09_k_lambda(micron, bump, delta) / att_curves.RV_C00)
