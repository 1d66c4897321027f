"""Comparison of many networks on many targets (Tables 3 and 7 to 9)."""
