"""Asks what helps: studies, their runs, tables and document, and the timing of all of it."""
