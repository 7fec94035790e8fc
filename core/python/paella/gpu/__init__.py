"""Launch plans on a real GPU from Python: for checks and measurements, not for serving.

Everything is launched by the engine's own code (core/src/gpu/cuda/instance.cpp), so that what is
checked and measured is what serves.
"""
