"""Bagpipes as a worker: `python -m benchmarks.peers.bagpipes --task galaxies --problem FILE.npz --dtype float64`.

As its examples: one `model_galaxy` with a delayed exponential history and Calzetti dust, then `update` for each galaxy.
It comes with its own grid of BC03 with MILES, resampled to its own wavelengths and 42 ages when it is loaded, and adds
absorption by the IGM and the emission of the dust: its magnitudes are of other physics and not compared.
"""

import os
import tempfile

import numpy as np

from benchmarks.problem import ONE_REDSHIFT, Problem
from benchmarks.timing import Skip, Timed, serve


def galaxies(problem: Problem, dtype: str, n: int) -> Timed:
    """Photometry of n galaxies, one after the other."""
    if problem.kind != "spectrum" or dtype != "float64":
        raise Skip("is used in float64, with a delayed exponential history")
    folder = tempfile.mkdtemp()
    os.chdir(folder)  # it makes folders where it is
    import bagpipes

    paths = []
    for name, band in zip(problem.names, problem.bands, strict=True):
        paths.append(os.path.join(folder, f"{name}.txt"))
        np.savetxt(paths[-1], np.stack(band, axis=-1))
    values = problem.galaxies(n)

    def components(i: int) -> dict:
        delayed = {
            "age": values["age"][i],
            "tau": values["tau"][i],
            "massformed": values["lg_mass_formed"][i],
            "metallicity": 10 ** values["lgmet"][i] / 0.02,
        }
        dust = {"type": "Calzetti", "Av": values["av"][i]}
        return {"redshift": ONE_REDSHIFT, "delayed": delayed, "dust": dust}

    model = bagpipes.model_galaxy(components(0), filt_list=paths)

    def run():
        photometry = []
        for i in range(n):
            model.update(components(i))
            photometry.append(model.photometry)
        return np.array(photometry)

    return Timed(run)


if __name__ == "__main__":
    serve({"galaxies": galaxies})
