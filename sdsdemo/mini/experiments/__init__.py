"""Asks what helps: the studies, their runs, tables and document, and how long they take."""
