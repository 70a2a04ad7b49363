"""Measure a guard on labelled conversations."""
