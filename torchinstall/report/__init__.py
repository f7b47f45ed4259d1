"""Show machines, plans and reports as text a person understands, or as JSON."""
