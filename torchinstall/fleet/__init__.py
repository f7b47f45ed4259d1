"""Many machines at once: classes of machines and the builds that serve them."""
