"""The page, and the only package that imports Gradio. A tab is a file with its layout, its wiring and its handlers.

Handlers take and return plain values, so that they are tested without a browser.
"""
