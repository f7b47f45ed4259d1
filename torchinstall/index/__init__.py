"""The PyTorch index and its kin: URLs, pages, cache, downloads, wheels."""
