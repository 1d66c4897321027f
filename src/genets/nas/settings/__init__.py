"""Settings of a search, presets, and their TOML form."""
