"""The values that everything else speaks in: machine, request, plan, target, versions, tags, errors."""
