"""What is kept on disk: tables, files that are written whole, and the journal of paid calls."""
