"""Captions as text, before any model reads them."""
