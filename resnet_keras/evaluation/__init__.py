"""Evaluation: a run is measured, explained and shown."""
