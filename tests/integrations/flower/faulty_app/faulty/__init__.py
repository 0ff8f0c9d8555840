"""A federation of a tiny net in which everything that can goes wrong."""
