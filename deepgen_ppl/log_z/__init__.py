"""log Z: estimates with their sides, policies, enumeration, annealing."""
