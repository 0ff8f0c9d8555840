"""Gradient search for patches, which inversion methods share."""
