"""Figures; needs the extra `plot`. Every function draws on given axes, so that figures can be composed."""

from typing import Any

import numpy as np

from dspsx import units

INK, BLUE, RED, GREY = "#1b1b1e", "#2a6f97", "#c1443c", "#8d99ae"


def pyplot() -> Any:
    """matplotlib.pyplot with a backend that needs no screen, or an error that names the extra."""
    try:
        import matplotlib
    except ImportError as error:
        raise ImportError("figures need matplotlib: pip install 'dspsx[plot]'.") from error
    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    return plt


def sed(axes: Any, residual_axes: Any, galaxy: Any, flux: np.ndarray, error: np.ndarray) -> None:
    """Observed spectrum of a galaxy with its photometry (maggies), and below it the residuals in units of the error."""
    micron = np.asarray(galaxy.observed_wave, float) / 1e4
    model = np.asarray(galaxy.observed_sed("uJy"), float)
    pivot = galaxy.filters.pivot_wavelengths() / 1e4
    predicted = np.asarray(galaxy.fluxes(), float)
    scale = units.per_maggie("uJy")
    lo, hi = 0.75 * pivot.min(), 1.35 * pivot.max()
    shown = (micron > lo) & (micron < hi)
    axes.plot(micron[shown], model[shown], color=BLUE, lw=1.1, label="best model")
    axes.plot(pivot, predicted * scale, "s", ms=8, mfc="none", mec=BLUE, mew=1.3, label="model in the band")
    axes.errorbar(pivot, flux * scale, error * scale, fmt="o", ms=5, color=RED, capsize=2, label="observed", zorder=5)
    for name, (wave, curve) in zip(galaxy.filters.names, galaxy.filters.curves(), strict=True):
        transform = axes.get_xaxis_transform()
        axes.fill_between(wave / 1e4, 0, 0.12 * curve / curve.max(), color=GREY, alpha=0.25, lw=0, transform=transform)
        band = name.split("_")[-1]
        axes.text(
            np.average(wave, weights=curve) / 1e4, 0.13, band, transform=transform, ha="center", fontsize=8, color=INK
        )
    axes.set(xscale="log", yscale="log", xlim=(lo, hi), ylabel=r"$f_\nu$ [$\mu$Jy]")
    in_view = np.concatenate([model[shown][model[shown] > 0], flux * scale])
    axes.set_ylim(0.25 * max(in_view.min(), 1e-3 * in_view.max()), 2.2 * in_view.max())
    axes.legend(frameon=False, loc="upper left", fontsize=9)
    axes.tick_params(labelbottom=False, which="both")
    pull = (flux - predicted) / error
    residual_axes.axhspan(-1, 1, color=GREY, alpha=0.2, lw=0)
    residual_axes.axhline(0, color=INK, lw=0.8)
    residual_axes.plot(pivot, pull, "o", ms=5, color=RED)
    limit = max(2.5, 1.2 * np.abs(pull).max())
    residual_axes.set(xscale="log", xlim=(lo, hi), ylim=(-limit, limit), xlabel=r"observed wavelength [$\mu$m]")
    residual_axes.set_ylabel(r"(data $-$ model) / $\sigma$")
    ticks = [t for t in (0.2, 0.3, 0.5, 0.7, 1, 2, 3, 5, 10, 20) if lo < t < hi]
    residual_axes.set_xticks(ticks, [f"{t:g}" for t in ticks])
    residual_axes.set_xticks([], minor=True)


def history(axes: Any, galaxy: Any) -> None:
    """Star formation history of a galaxy up to its observation and, where it has one, the growth of its halo."""
    t_obs = float(galaxy.t_obs)
    t = np.linspace(0.02, t_obs, 600)
    dtype = np.asarray(galaxy.redshift).dtype
    rate = galaxy.sfh.rate((t_obs - t).astype(dtype), galaxy.t_obs)
    axes.plot(t, np.asarray(rate), color=BLUE, lw=1.8)
    axes.set(xlabel="age of the universe [Gyr]", xlim=(0, t_obs * 1.02))
    axes.set_ylabel(r"SFR [M$_\odot$ yr$^{-1}$]", color=BLUE)
    axes.set_ylim(bottom=0)
    axes.tick_params(axis="y", colors=BLUE)
    mah = getattr(galaxy.sfh, "mah", None)
    if mah is not None:
        twin = axes.twinx()
        twin.plot(t, np.asarray(mah.log_mah(t.astype(dtype))), color=RED, lw=1.8, ls="--")
        twin.set_ylabel(r"$\log_{10}$ halo mass [M$_\odot$]", color=RED)
        twin.tick_params(axis="y", colors=RED)
        top = float(mah.log_mah(np.asarray(t_obs, dtype)))
        twin.set_ylim(top - 3.2, top + 0.3)


def colour_colour(
    figure: Any,
    axes: Any,
    names: tuple[str, ...],
    magnitudes: np.ndarray,
    pairs: tuple,
    colour_by: np.ndarray,
    label: str,
) -> None:
    """Colour-colour diagram of a population; `pairs` names the bands, ((x1, x2), (y1, y2)); points coloured by a quantity."""
    (x1, x2), (y1, y2) = pairs
    column = {name: magnitudes[:, i] for i, name in enumerate(names)}
    x, y = column[x1] - column[x2], column[y1] - column[y2]
    # in random order, so that no kind of galaxy hides another
    order = np.random.default_rng(0).permutation(x.size)
    points = axes.scatter(x[order], y[order], c=colour_by[order], s=3, cmap="RdYlBu", lw=0, rasterized=True)
    for setter, values in ((axes.set_xlim, x), (axes.set_ylim, y)):
        lo, hi = np.percentile(values, [0.2, 99.8])
        margin = 0.08 * (hi - lo) or 0.1
        setter(lo - margin, hi + margin)
    short = lambda name: name.split("_")[-1]  # noqa: E731
    axes.set(xlabel=f"{short(x1)} - {short(x2)} [mag]", ylabel=f"{short(y1)} - {short(y2)} [mag]")
    bar = figure.colorbar(points, cax=axes.inset_axes([0.56, 0.16, 0.4, 0.035]), orientation="horizontal")
    bar.set_label(label, fontsize=9, labelpad=2)
    bar.ax.tick_params(labelsize=8)
