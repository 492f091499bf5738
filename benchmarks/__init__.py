"""Measurements that take minutes, on this machine, of the real thing: python -m benchmarks.NAME --help."""
