"""The PyTorch index and its mirrors: URLs, pages, cache, downloads, wheels."""
