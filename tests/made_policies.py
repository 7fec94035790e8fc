"""Policies written in Python."""


class Fifo:
    """The shortest one there is; `step` is an option without a use."""

    def __init__(self, step=1):
        self.step, self.waiting = step, []

    def push(self, job, model, remaining_us, *, due_us, total_us, deadline_us):
        self.waiting.append(job)

    def pop(self):
        return self.waiting.pop(0)

    def peek(self):
        return self.waiting[0]

    def __len__(self):
        return len(self.waiting)
