"""The unit system on one page: constants, and conversions between the maggies used inside and the units people publish.

Wavelength in Angstrom, spectra in Lsun/Hz, time in Gyr, SFR in Msun/yr, fluxes in maggies (1 maggie = AB magnitude 0 =
3631 Jy). CONVENTIONS.md tells the whole of it.
"""

import math

#: Speed of light, Angstrom / s (exact).
C_ANGSTROM = 2.99792458e18
#: Nominal solar luminosity, erg / s (IAU 2015 Resolution B3). Every grid is converted to it when read.
LSUN_CGS = 3.828e33
#: Parsec in cm (IAU 2015 Resolution B2).
PC_CM = 3.0856775814913673e18
#: Flux density of AB magnitude zero, Jy (Oke & Gunn 1983, ApJ 266, 713).
AB_JY = 3631.0
#: Luminosity density in Lsun/Hz of a source with absolute AB magnitude zero: 3631 Jy at 10 pc.
AB_LSUN_HZ = AB_JY * 1e-23 * 4.0 * math.pi * (10.0 * PC_CM) ** 2 / LSUN_CGS

#: Flux in erg/s/cm^2 of a line of 1 Lsun at 10 pc.
LINE_AT_10PC = LSUN_CGS / (4.0 * math.pi * (10.0 * PC_CM) ** 2)

#: How many of each unit of a line's flux make one erg/s/cm^2.
PER_LINE_CGS = {"cgs": 1.0, "1e-17 cgs": 1e17, "W/m2": 1e-3}
#: How many of each unit make one maggie.
PER_MAGGIE = {
    "maggies": 1.0,
    "nanomaggies": 1e9,
    "Jy": AB_JY,
    "mJy": AB_JY * 1e3,
    "uJy": AB_JY * 1e6,
    "nJy": AB_JY * 1e9,
    "cgs": AB_JY * 1e-23,  # erg / s / cm^2 / Hz
}


def per_maggie(unit: str) -> float:
    """How many `unit` make one maggie. Raises ValueError for an unknown unit."""
    return _known(unit, PER_MAGGIE)


def per_cgs_line(unit: str) -> float:
    """How many `unit` of a line's flux make one erg/s/cm^2. Raises ValueError for an unknown unit."""
    return _known(unit, PER_LINE_CGS)


def _known(unit: str, units: dict[str, float]) -> float:
    try:
        return units[unit]
    except KeyError:
        raise ValueError(f"unknown flux unit {unit!r}; use one of {', '.join(units)}.") from None
