"""The MasterNet of a search: its choice, its starting weights and its training."""
