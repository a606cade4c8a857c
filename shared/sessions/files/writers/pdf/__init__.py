"""The PDF writer: the blocks of a document, laid out by Typst in a child process.

Not here: what a document consists of (`../blocks.py`); reading PDFs (`../../readers/pdf.py`).
"""
