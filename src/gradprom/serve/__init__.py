"""The web page: an image is dropped on it, enhanced, compared and taken away again."""
