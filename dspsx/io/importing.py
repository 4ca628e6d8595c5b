"""Libraries that users have, converted to the files that dspsx reads."""

import dataclasses
import os
import pathlib
import re
from collections.abc import Sequence
from typing import Any, Literal

import h5py
import numpy as np

from dspsx._files import make_folder, require_file
from dspsx.io.formats import named, read_galaxev, read_hdf5, read_npz
from dspsx.io.libraries import RECIPES, library_path
from dspsx.io.spectra import LSUN_FSPS, Spectra, standard, write


def import_library(
    files: str | os.PathLike | Sequence[str | os.PathLike],
    out: str | os.PathLike | None = None,
    *,
    flux_unit: Literal["Lsun/Hz", "Lsun/A", "erg/s/Hz", "erg/s/A"] | None = None,
    wave_unit: Literal["A", "nm", "micron"] | None = None,
    medium: Literal["air", "vacuum"] | None = None,
    l_sun: float | None = None,
    z: Sequence[float] | None = None,
    about: dict[str, str] | None = None,
    force: bool = False,
) -> pathlib.Path:
    """Convert a library to dspsx's HDF5, in the data folder (`library(name)` reads it there) or at `out`; gives its path.

    Read are DSPS's and FSPS's HDF5, with lines or without; GALAXEV's `.ised` and `.ised_ASCII`, a file for each metallicity;
    `.npz` with wave, lg_age (log10 Gyr), lgmet (log10 Z), flux (met, age, wave) per Msun formed. What a format or file states
    of its units is taken, else must be given; what is given wins.

    **Arguments:** `l_sun` erg/s, of fluxes in Lsun; `z` the metallicity of each GALAXEV file, if neither its header nor its
    name tells; `about` more provenance; `force` to replace a file that exists.
    """
    paths = [pathlib.Path(f) for f in ([files] if isinstance(files, str | os.PathLike) else files)]
    stem = re.sub(r"_m\d{2,3}(?=_|$)", "", paths[0].name.split(".")[0]) if len(paths) > 1 else paths[0].stem
    target = _target(stem, out, force)
    for path in paths:
        require_file(path, "import")
        if path.stat().st_size == 0:
            raise ValueError(f"import: {str(path)!r} is empty.")
    galaxev = [".ised" in path.suffix for path in paths]
    if len(paths) > 1 and not all(galaxev):
        raise ValueError("import: only GALAXEV's .ised and .ised_ASCII files are several for a library.")
    given = {"flux_unit": flux_unit, "wave_unit": wave_unit, "medium": medium, "l_sun": l_sun}
    given = {key: value for key, value in given.items() if value is not None}
    with named(paths[0]):
        if all(galaxev):
            spectra = read_galaxev(paths, z)
        elif h5py.is_hdf5(paths[0]) or paths[0].suffix in (".h5", ".hdf5"):
            spectra = read_hdf5(paths[0])
        elif paths[0].suffix == ".npz":
            spectra = read_npz(paths[0], given)
        else:
            raise ValueError("it is none of what can be read: HDF5, .ised, .ised_ASCII, .npz.")
        spectra = standard(dataclasses.replace(spectra, **given))
        spectra.about.setdefault("library", stem)
        spectra.about |= {"imported_from": ", ".join(path.name for path in paths)} | (about or {})
        write(target, spectra)
    return target


def from_python_fsps(sp: Any = None, out: str | os.PathLike | None = None, *, force: bool = False) -> pathlib.Path:
    """Write the populations of a `fsps.StellarPopulation` (a new one if none is given) to HDF5; gives its path.

    Spectra, surviving masses and, with `add_neb_emission`, lines, at every age and metallicity of FSPS (Conroy, Gunn & White
    2009, ApJ 699, 486), from its L_sun = 3.839e33 erg/s. Raises ValueError for a population that is dusty, redshifted, not
    simple, or whose metallicity is interpolated.
    """
    if sp is None:
        try:
            import fsps  # pyright: ignore[reportMissingImports]
        except ImportError as error:
            raise ImportError("from_python_fsps needs python-fsps and its data: pip install fsps") from error
        sp = fsps.StellarPopulation(zcontinuous=0)
    odd = [f"{key} = {sp.params[key]}" for key in ("sfh", "dust1", "dust2", "zred") if sp.params[key] != 0]
    odd += [f"zcontinuous = {sp._zcontinuous}"] if getattr(sp, "_zcontinuous", 0) else []
    if odd:
        raise ValueError(f"from_python_fsps: needs simple populations, with {', '.join(odd)} set to 0 instead.")
    nebular = bool(sp.params["add_neb_emission"])
    isochrones, stars = (x.decode() if isinstance(x, bytes) else str(x) for x in sp.libraries[:2])
    imf = {0: "Salpeter 1955", 1: "Chabrier 2003", 2: "Kroupa 2001", 3: "van Dokkum 2008", 4: "Dave 2008"}
    remnants = "with" if sp.params["add_stellar_remnants"] else "without"
    flux, surviving, lines = [], [], []
    for i in range(len(sp.zlegend)):
        flux.append(np.array(sp.get_spectrum(zmet=i + 1, tage=0.0, peraa=False)[1]))
        surviving.append(np.array(sp.stellar_mass))
        if nebular:
            lines.append(np.array(sp.emline_luminosity))
    gas = f"in the spectra; log U = {sp.params['gas_logu']:g}, gas log Z/Z_sun = {sp.params['gas_logz']:g}"
    gas += "; lines in the spectra too" if sp.params["nebemlineinspec"] else "; lines as datasets only"
    wave_of_lines = np.array(sp.emline_wavelengths) if nebular else np.empty(0)
    names = np.array([f"line_{x:.2f}".replace(".", "p") for x in wave_of_lines], "S")  # DSPS wants identifiers
    spectra = Spectra(
        wave=np.array(sp.wavelengths),
        lg_age=np.array(sp.ssp_ages) - 9.0,
        lgmet=np.log10(np.array(sp.zlegend, float)),
        flux=np.stack(flux),
        l_sun=LSUN_FSPS,
        surviving=np.stack(surviving),
        surviving_says=f"Msun left per Msun formed, {remnants} remnants",
        lines={"ssp_emline_name": names, "ssp_emline_wave": wave_of_lines, "ssp_emline_luminosity": np.stack(lines)}
        if nebular
        else None,
        about={
            "library": f"FSPS: {isochrones}, {stars}",
            "isochrones": isochrones,
            "atmospheres": stars,
            "imf": imf.get(sp.params["imf_type"], f"FSPS imf_type {sp.params['imf_type']}"),
            "nebular": gas if nebular else "none: stellar only",
            "citation": "Conroy, Gunn & White 2009, ApJ 699, 486; Conroy & Gunn 2010, ApJ 712, 833",
        },
    )  # fmt: skip
    target = _target(
        f"fsps-{isochrones}-{stars}-{imf.get(sp.params['imf_type'], 'imf').split()[0].lower()}", out, force
    )
    write(target, standard(spectra))
    return target


def _target(stem: str, out: str | os.PathLike | None, force: bool) -> pathlib.Path:
    if out is None:
        if stem in RECIPES or stem == "popstar":
            raise ValueError(f"import: {stem!r} is the name of another library; give the file a name with --out.")
        out = library_path(re.sub(r"[^\w.+-]", "_", stem))
        make_folder(out.parent)
    target = pathlib.Path(out)
    if target.exists() and not force:
        raise FileExistsError(f"import: {str(target)!r} exists; --force (force=True) replaces it, --out names another.")
    return target
