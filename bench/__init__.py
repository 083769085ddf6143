"""Measure time and memory with small programs that print tables (see bench/README.md).

The package is not part of the build.
"""
