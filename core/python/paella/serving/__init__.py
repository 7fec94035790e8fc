"""Serving to other processes: the control socket of a server, and clients of one."""
