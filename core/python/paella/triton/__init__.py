"""NVIDIA's Triton Inference Server, as a baseline: docs/triton.md."""
