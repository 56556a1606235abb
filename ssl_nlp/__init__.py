"""Self-supervised objectives for text, compared on equal terms."""

__version__ = "0.1.0"
