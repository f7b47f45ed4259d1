"""What is known about PyTorch's builds: tables of facts, each with its source, and the live index on top."""
