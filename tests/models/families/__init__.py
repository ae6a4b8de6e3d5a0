"""A tiny random twin of each family of pipelines, and what diffusers itself makes of it, a file a family."""
