"""What training and evaluation both need: load a model, ask it, and tell what it knows."""
