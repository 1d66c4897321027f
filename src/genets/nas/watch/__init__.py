"""A running search, seen from outside: its signs of life, and the state of the study."""
