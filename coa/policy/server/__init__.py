"""Serve any policy as an OpenAI-compatible server."""
