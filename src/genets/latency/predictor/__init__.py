"""The latency predictor: a table of timed probes, and the costs of stages that follow from it."""
