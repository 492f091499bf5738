"""Measurements of the real thing.

`python -m benchmarks` holds the project to being fast: one run, one table per question, every row a ratio with its
spread (docs/benchmarks.md). `python -m benchmarks.ablation`, `.soak` and `.overload` take longer.
"""
