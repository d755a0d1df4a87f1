"""Peers written in Python.  They run in a virtual environment of their own (requirements.txt), not in the product's."""
