"""The page: the only place with Gradio. A tab is a file with `build()` (layout and wiring) and its handlers.

Handlers are module-level functions of plain values, tested without a browser.
"""
