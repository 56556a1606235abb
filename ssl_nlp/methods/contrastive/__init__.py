"""Methods that tell the other text of a pair from all others."""
