"""Write the sets in the formats of other trainers and viewers."""
