"""Clients and listeners of HTTP."""
