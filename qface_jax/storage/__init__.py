"""Files on storage that may fail."""
