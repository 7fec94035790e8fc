"""The model compiler: an ONNX file becomes a launch plan with plain and instrumented kernels.

Apache TVM imports, fuses and lowers; the schedules, the plan and the instrumentation are ours, and
nvcc makes the cubins. No GPU and no driver are needed. `compile.compile_model` does it all.
"""
