"""Begins a data set: looks at a folder, and writes its block into params.yaml."""
