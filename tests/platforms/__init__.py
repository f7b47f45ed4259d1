"""Code that only runs on Windows or macOS, run here on recorded answers."""
