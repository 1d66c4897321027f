"""Foundations that every layer uses: errors, files, memory of the host, lazy imports."""
