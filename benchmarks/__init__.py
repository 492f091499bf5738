"""What holds the project to being fast: one run, one table per question, every row a ratio with its spread.

Run `python -m benchmarks`, or `make benchmark`; docs/benchmarks.md says how to read the tables.
"""
