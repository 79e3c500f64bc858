"""Broken Markdown: tables, lists, headings and fences, mended line by line; what is code is never touched."""
