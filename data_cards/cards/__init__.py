"""Make the cards of sets and models."""
