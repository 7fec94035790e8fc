"""Measures launch plans on the present GPU, and writes what a simulation needs of it.

profile.py runs it all and resumes; kernels.py, model.py and concurrency.py measure; windows.py says
how a kernel inside its model is timed, arithmetic.py what is made of the times; writing.py has the
files under config/.
"""
