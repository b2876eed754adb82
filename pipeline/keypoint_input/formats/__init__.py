"""Readers of files of keypoints, a module for each kind."""
