"""Join options, machine, target and catalog into a plan: the only place that does."""
