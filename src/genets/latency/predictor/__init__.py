"""The latency table: probes, their costs, calibration, and the file that holds them."""
