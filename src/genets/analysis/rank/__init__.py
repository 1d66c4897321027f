"""Intrinsic rank of a network's convolutions, by stage (Figure 4)."""
