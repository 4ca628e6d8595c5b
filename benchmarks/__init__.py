"""Benchmarks: `python -m benchmarks` times dspsx beside its peers in one run."""
