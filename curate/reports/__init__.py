"""The parts of the page about errors."""
