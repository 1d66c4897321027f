"""Profile: how latency depends on batch size, cost, block type and width (Figures 2 and 3)."""
