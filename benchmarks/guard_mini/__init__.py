"""What the embedded guard is trained on: texts of our own, and their mixture with public data."""
