"""The plan for other tools and for machines without a network, and what an installation brings down."""
