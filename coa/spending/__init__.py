"""What calls cost: they are journaled, counted, and kept below the caps."""
