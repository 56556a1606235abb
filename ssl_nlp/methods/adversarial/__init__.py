"""Methods whose parts oppose each other."""
