"""Measurements: what the product costs and how fast it is.  Figures, not assertions (those are in tests/)."""
