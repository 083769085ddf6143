"""Serve a Hugging Face Hub on this machine, for trying publishing out."""
