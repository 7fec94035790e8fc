"""Runs launch plans on a real GPU from Python: for checks and measurements, not for serving."""
