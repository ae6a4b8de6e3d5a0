"""Hostile files and requests against a running page, and what must be true of every answer.

files         what a hostile file is, and the parts that pictures are made of
pictures      bombs of every kind, cut files, other things under a picture's name
odd_pictures  odd metadata and chunks, every mode, formats that the page does not read
names         a sound picture under hostile names
tables        tables, archives and other files that are no pictures
calls         hostile requests by hand: paths, methods, ranges, queries, bodies, Gradio's other routes
http_edges    hostile headers, uploads that are none, bytes that are no request
page_calls    hostile values for every event of the page
wire          sends bytes to a server, as they are
campaign      sends all of it, judges each answer, measures the server; `python -m tests.hostile ADDRESS` prints a table
"""
