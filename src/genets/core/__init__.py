"""The lowest layer: errors, files, resumable folders, progress, log and validation."""
