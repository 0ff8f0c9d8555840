"""Gradient searches for patches, shared by inversion methods."""
