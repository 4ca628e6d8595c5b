"""The commands, as a user runs them."""

import pathlib
import subprocess
import sys

import pytest

import dspsx
from dspsx import cli

ROOT = pathlib.Path(__file__).parents[1]


@pytest.mark.xdist_group("slow")
def test_demo_prints_and_draws(tmp_path, environment):
    figure = tmp_path / "figure.png"
    command = [sys.executable, "-W", "error", "-m", "dspsx.cli", "demo", "--galaxies", "300", "--out", str(figure)]
    run = subprocess.run(
        command, capture_output=True, text=True, cwd=tmp_path, env=environment, timeout=300, check=False
    )
    assert run.returncode == 0, run.stderr
    for text in (
        "sfh.mah.logm0",
        "d mag / d parameter",
        "microseconds a galaxy",
        "FRB 20180924B",
        "10.60 (+0.02 -0.03)",
    ):
        assert text in run.stdout, text
    assert figure.read_bytes().startswith(b"\x89PNG") and figure.stat().st_size > 50_000
    # the best fit is a good one, and near the published mass
    chi2 = float(run.stdout.split("chi squared ")[1].split()[0])
    mass = float(run.stdout.split("log10 mass formed / Msun")[1].split()[0])
    assert chi2 < 20 and abs(mass - 10.60) < 0.3


def test_show_and_lists(tmp_path, capsys):
    path = tmp_path / "dust.h5"
    dspsx.save(path, dspsx.Calzetti00(av=0.7))
    assert cli.main(["show", str(path)]) == 0
    assert "0.7" in capsys.readouterr().out
    assert cli.main(["filters"]) == 0
    assert "lsst_u" in capsys.readouterr().out
    assert cli.main(["ssp"]) == 0
    assert "PopStar" in capsys.readouterr().out


def test_bad_arguments(tmp_path, capsys):
    assert cli.main(["show", str(tmp_path / "absent.h5")]) == 1
    assert "no file" in capsys.readouterr().err
    assert cli.main(["demo", "--galaxies", "0"]) == 2
    assert cli.main(["demo", "--out", str(tmp_path / "absent" / "figure.png")]) == 2
    assert "folder" in capsys.readouterr().err
