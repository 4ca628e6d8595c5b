"""Lines that come with an SSP grid."""

import os
from collections.abc import Sequence
from typing import Any, final

import equinox as eqx
import numpy as np
from jaxtyping import Array, Float

from dspsx import units
from dspsx._files import open_hdf5
from dspsx._model import data
from dspsx._numerics import matmul
from dspsx.nebular.names import NamedLines, find_line, identifier, unique_names

_KEYS = ("ssp_emline_name", "ssp_emline_wave", "ssp_emline_luminosity")


@final
class TabulatedLines(NamedLines):
    r"""Lines that come with an SSP grid: :math:`L_l = \sum_{Z, a} m_{Z, a} \, \ell(Z, a, l)`, gas included as it was computed.

    **Fields:** `wave` (line,) Angstrom in vacuum, rest frame; `luminosity` (met, young, line) Lsun per Msun formed, of the
    ages up to the last that has any; `lgmet`, `lg_age` of the grid; `line_names`.
    """

    line_names: tuple[str, ...] = eqx.field(static=True)
    wave: Float[Array, " line"] = data()
    lgmet: Float[Array, " met"] = data()
    lg_age: Float[Array, " age"] = data()
    luminosity: Float[Array, "met young line"] = data()

    def __init__(self, line_names: Sequence[str], wave: Any, lgmet: Any, lg_age: Any, luminosity: Any):
        """`luminosity` (met, age, line) in Lsun per Msun formed. Raises ValueError for a wrong shape, for two lines of one
        name, and for values that are not finite or negative."""
        self.line_names = unique_names(line_names, "TabulatedLines.line_names")
        wave, luminosity = np.asarray(wave, float), np.asarray(luminosity, float)
        expected = (np.size(lgmet), np.size(lg_age), len(self.line_names))
        if luminosity.shape != expected or wave.shape != expected[2:]:
            raise ValueError(
                f"TabulatedLines.luminosity must have shape (met, age, line) = {expected}; got {luminosity.shape}, with wave "
                f"{wave.shape}."
            )
        for what, x in (("wave", wave), ("luminosity", luminosity)):
            if not (np.isfinite(x).all() and (x >= 0).all()):
                raise ValueError(f"TabulatedLines.{what} must be finite and not negative.")
        shining = np.flatnonzero(luminosity.any((0, 2)))
        self.wave, self.lgmet, self.lg_age = wave, lgmet, lg_age
        self.luminosity = luminosity[:, : max(shining, default=0) + 1]

    @classmethod
    def from_hdf5(cls, path: str | os.PathLike, lines: Sequence[str] | None = None) -> "TabulatedLines":
        """Read the lines of an SSP file in DSPS's HDF5 format, Lsun per Msun on disk, all or those named.

        Names are made as DSPS makes them: "H alpha 6563" and "[O III] 5007" become H_alpha_6563 and O_III_5007. A file in units
        of another solar luminosity (`l_sun_cgs`) is converted. Wavelengths are taken as they are, and meant to be in vacuum.
        Raises FileNotFoundError or ValueError (naming the dataset or line) for a file that cannot be used.
        """
        with open_hdf5(path, "TabulatedLines.from_hdf5", (*_KEYS, "ssp_lgmet", "ssp_lg_age_gyr")) as file:
            raw, wave, luminosity = (file[key][()] for key in _KEYS)
            lgmet, lg_age = file["ssp_lgmet"][()], file["ssp_lg_age_gyr"][()]
            lsun = float(file.attrs.get("l_sun_cgs", units.LSUN_CGS))
        names = tuple(identifier(name) for name in np.atleast_1d(raw))
        if np.ndim(luminosity) != 3 or luminosity.shape[2] != len(names) or np.shape(wave) != (len(names),):
            raise ValueError(
                f"{os.fspath(path)}: {len(names)} names of lines, but wavelengths {np.shape(wave)} and luminosities "
                f"{np.shape(luminosity)}, which should be (met, age, line)."
            )
        if lines is not None:
            columns = [find_line(name, names, os.fspath(path)) for name in lines]
            names, wave, luminosity = tuple(names[i] for i in columns), wave[columns], luminosity[..., columns]
        return cls(names, wave, lgmet, lg_age, luminosity * (lsun / units.LSUN_CGS))

    def luminosities(self, ssp, weights):
        self.check_use(ssp)
        _, n_young, n_line = self.luminosity.shape
        young = weights[..., :n_young]
        luminosity = matmul(young.reshape(young.shape[0], -1), self.luminosity.reshape(-1, n_line))
        return self.wave.astype(weights.dtype), luminosity
