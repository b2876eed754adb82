"""Poses of whoever is in front of a camera, while they are there."""
