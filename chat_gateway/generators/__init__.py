"""Generators: the models the gateway stands in front of."""
