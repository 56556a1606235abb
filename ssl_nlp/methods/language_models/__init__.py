"""Methods that predict tokens: the next one, masked ones, replaced ones."""
