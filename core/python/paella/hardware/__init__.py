"""Runs on a real GPU: plans, cores, engines in one process or several, and what is checked."""
