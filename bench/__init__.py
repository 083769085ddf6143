"""Benchmarks: small programs that print tables (bench/README.md); no part of the build."""
