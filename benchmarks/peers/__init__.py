"""One file for each peer: a worker that uses it as its own documentation does. None of them imports dspsx."""
