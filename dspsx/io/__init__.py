"""Files: models saved and loaded, and libraries of simple stellar populations."""

from dspsx.io.importing import import_library
from dspsx.io.libraries import fetch, library
from dspsx.io.store import load, save

__all__ = ["fetch", "import_library", "library", "load", "save"]
