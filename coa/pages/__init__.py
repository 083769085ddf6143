"""What pages are made of: marked-up text, pictures, and one look."""
