"""A Flower app with fedmend's guard, and one malicious client."""
