"""Ask open models in their own format, by token ids."""
