"""Pictures, a module per format or library; `stages.lib.ingest.readers.image` puts them together."""
