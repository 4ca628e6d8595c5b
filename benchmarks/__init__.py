"""Benchmarks beside peers: `python -m benchmarks`. Never imported by dspsx; every peer is optional."""
