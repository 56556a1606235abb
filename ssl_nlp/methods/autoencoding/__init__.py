"""Methods that write a sentence from its embedding."""
