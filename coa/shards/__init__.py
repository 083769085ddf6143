"""Parts of a stage in several processes, and how they are merged."""
