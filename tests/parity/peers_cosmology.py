"""What dsps says about cosmology: run by the `peer` fixture in a process of its own, numpy in, numpy out."""

import numpy as np


def dsps_cosmology(z, Om0, w0, wa, h):
    """Distances and times of dsps.cosmology.flat_wcdm (no radiation) on an array of redshifts."""
    from dsps.cosmology import flat_wcdm

    args = (np.asarray(z), Om0, w0, wa, h)
    out = {
        "comoving_distance": flat_wcdm.comoving_distance(*args),
        "luminosity_distance": flat_wcdm.luminosity_distance(*args),
        "angular_diameter_distance": flat_wcdm.angular_diameter_distance(*args),
        "distance_modulus": flat_wcdm.distance_modulus(*args),
        "differential_comoving_volume": flat_wcdm.differential_comoving_volume(*args),
        "lookback_time": flat_wcdm.lookback_time(*args),
        "age": flat_wcdm.age_at_z(*args),
    }
    return {name: np.asarray(value) for name, value in out.items()}


def dsps_named():
    """The parameters of dsps's named cosmologies."""
    from dsps.cosmology import flat_wcdm

    return {
        "planck15": flat_wcdm.PLANCK15._asdict(),
        "wmap5": flat_wcdm.WMAP5._asdict(),
        "fsps": flat_wcdm.FSPS_COSMO._asdict(),
    }
