"""Hold commands for those who develop the project; nothing in the product imports them."""
