"""The latencies of a search: its tables, its measured networks, and waiting for a calm device."""
