"""Copies and overlaps: what must not be trained on."""
