"""From a trained enhancer to enhanced images."""
