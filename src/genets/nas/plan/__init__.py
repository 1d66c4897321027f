"""The plan of a search: its phases, time and disk space, before anything is trained."""
