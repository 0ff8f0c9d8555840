"""Gradient searches for patches, which inversion methods share."""
