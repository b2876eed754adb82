"""The pose file, and what a run keeps of it until it is written."""
