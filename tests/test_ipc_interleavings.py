"""The rings and their bells in every order that two processors can make of them.

A small model of client and server, instruction by instruction (paella/client.hpp and
paella/ipc/rings.hpp). Each processor has a store buffer: stores reach memory later, those to
different places in any order, but a release store after all before it; a full fence and an exchange
wait until the buffer is empty. Loads are not reordered with loads. Explored is every state; from
each of them the end must still be reachable, and what is read must be what was sent. The same
explorer finds the fault when a fence, a release, a second look or the check for room is left out.
"""

from collections import deque

import pytest

pytestmark = pytest.mark.no_engine


class Program:
    """Instructions and labels of one processor; registers are the names of `registers`."""

    def __init__(self, registers):
        self.registers = registers
        self.code = []
        self.labels = {}

    def label(self, name):
        self.labels[name] = len(self.code)

    def __getattr__(self, op):
        return lambda *args: self.code.append((op, *args))


def sleep(p, who, tail, seen, left_out):
    """Says so, looks once more, and waits for the bell."""
    p.store(lambda r: f"{who}_asleep", lambda r: 1, False)
    if f"{who} fence before sleeping" not in left_out:
        p.fence()
    if f"{who} second look" not in left_out:
        p.load("x", lambda r: tail)
        p.branch(lambda r: r["x"] != r[seen], "awake")
    p.hear(who)
    p.label("awake")
    p.store(lambda r: f"{who}_asleep", lambda r: 0, False)
    p.branch(lambda r: True, "main")


def client(left_out, requests, capacity):
    p = Program(("sent", "got", "seen", "x"))
    p.label("main")
    p.branch(lambda r: r["got"] == requests, "end")
    p.branch(lambda r: r["sent"] == requests, "receive")
    p.branch(lambda r: r["sent"] - r["seen"] < capacity, "send")
    p.load("seen", lambda r: "requests_head")
    p.branch(lambda r: r["sent"] - r["seen"] >= capacity, "receive")
    p.label("send")
    p.store(lambda r: f"request{r['sent'] % capacity}", lambda r: 10 + r["sent"], False)
    p.set("sent", lambda r: r["sent"] + 1)
    p.store(lambda r: "requests_tail", lambda r: r["sent"], "client release" not in left_out)
    if "client fence after writing" not in left_out:
        p.fence()
    p.load("x", lambda r: "server_asleep")
    p.branch(lambda r: not r["x"], "main")
    p.ring("server")
    p.branch(lambda r: True, "main")
    p.label("receive")
    p.load("x", lambda r: "answers_tail")
    p.branch(lambda r: r["x"] != r["got"], "read")
    sleep(p, "client", "answers_tail", "got", left_out)
    p.label("read")
    p.load("x", lambda r: f"answer{r['got'] % capacity}")
    p.require(lambda r: r["x"] == 20 + r["got"])
    p.set("got", lambda r: r["got"] + 1)
    p.store(lambda r: "answers_head", lambda r: r["got"], True)
    p.branch(lambda r: True, "main")
    p.label("end")
    return p


def server(left_out, requests, capacity):
    p = Program(("taken", "head", "x"))
    p.label("main")
    p.branch(lambda r: r["taken"] == requests, "end")
    p.load("x", lambda r: "requests_tail")
    p.branch(lambda r: r["x"] == r["taken"], "sleep")
    if "room" not in left_out:
        p.branch(lambda r: r["taken"] - r["head"] < capacity, "take")
        p.load("head", lambda r: "answers_head")
        # A client that has to read first: looked at again after a while.
        p.branch(lambda r: r["taken"] - r["head"] >= capacity, "main")
    p.label("take")
    p.load("x", lambda r: f"request{r['taken'] % capacity}")
    p.require(lambda r: r["x"] == 10 + r["taken"])
    p.store(lambda r: "requests_head", lambda r: r["taken"] + 1, True)
    p.store(lambda r: f"answer{r['taken'] % capacity}", lambda r: 20 + r["taken"], False)
    p.set("taken", lambda r: r["taken"] + 1)
    p.store(lambda r: "answers_tail", lambda r: r["taken"], "server release" not in left_out)
    if "server fence after writing" not in left_out:
        p.fence()
    p.load("x", lambda r: "client_asleep")
    p.branch(lambda r: not r["x"], "main")
    p.exchange("x", "client_asleep")
    p.branch(lambda r: not r["x"], "main")
    p.ring("client")
    p.branch(lambda r: True, "main")
    p.label("sleep")
    sleep(p, "server", "requests_tail", "taken", left_out)
    p.label("end")
    return p


class FoundError(Exception):
    pass


def may_leave(buffer, i):
    """Whether the i-th store of a buffer may reach memory next."""
    place, _, release = buffer[i]
    return not any(release or earlier[0] == place for earlier in buffer[:i])


def steps(programs, state):
    """Every state that may come next; FoundError where something wrong is read."""
    processors, memory, bells = state
    for who, program in enumerate(programs):
        at, registers, buffer = processors[who]

        def after(at=at, registers=registers, buffer=buffer, memory=memory, bells=bells, who=who):
            new = list(processors)
            new[who] = (at, registers, buffer)
            return tuple(new), memory, bells

        for i, (place, value, _) in enumerate(buffer):
            if may_leave(buffer, i):
                rest = buffer[:i] + buffer[i + 1 :]
                changed = dict(memory) | {place: value}
                yield after(buffer=rest, memory=tuple(sorted(changed.items())))
        if at < len(program.code):
            change = executed(program, who, processors[who], memory, bells)
            if change is not None:
                yield after(**{"at": at + 1} | change)


def executed(program, who, processor, memory, bells):
    """What a processor's next operation changes; None where it has to wait."""
    at, registers, buffer = processor
    op, *args = program.code[at]
    r = dict(zip(program.registers, registers, strict=True))

    def put(name, value):
        return tuple((r | {name: value})[n] for n in program.registers)

    if op == "store":
        return {"buffer": (*buffer, (args[0](r), args[1](r), args[2]))}
    if op == "load":
        place = args[1](r)
        own = [value for p, value, _ in buffer if p == place]
        return {"registers": put(args[0], own[-1] if own else dict(memory).get(place, 0))}
    if op == "set":
        return {"registers": put(args[0], args[1](r))}
    if op == "branch":
        return {"at": program.labels[args[1]] if args[0](r) else at + 1}
    if op == "ring":
        return {"bells": tuple(sorted({*bells, args[0]}))}
    if op == "hear":
        return {"bells": tuple(b for b in bells if b != args[0])} if args[0] in bells else None
    if op == "require":
        if not args[0](r):
            raise FoundError(f"{('client', 'server')[who]} reads {r}")
        return {}
    if buffer:  # a fence, and with it an exchange, waits until all stores have left
        return None
    return exchanged(memory, args[1], put, args[0]) if op == "exchange" else {}


def exchanged(memory, place, put, register):
    """The word at `place` in a register, and 0 in its place."""
    changed = dict(memory)
    old, changed[place] = changed.get(place, 0), 0
    return {"registers": put(register, old), "memory": tuple(sorted(changed.items()))}


def explore(left_out=(), requests=2, capacity=1):
    """The number of states, or FoundError."""
    programs = tuple(side(left_out, requests, capacity) for side in (client, server))
    first = (tuple((0, (0,) * len(p.registers), ()) for p in programs), (), ())
    before = {first: []}
    todo = deque([first])
    ends = []
    while todo:
        state = todo.popleft()
        if all(c[0] == len(p.code) for c, p in zip(state[0], programs, strict=True)):
            ends.append(state)
        for new in steps(programs, state):
            if new not in before:
                before[new] = []
                todo.append(new)
            before[new].append(state)
    reach = set(ends)
    todo = deque(ends)
    while todo:
        for earlier in before[todo.popleft()]:
            if earlier not in reach:
                reach.add(earlier)
                todo.append(earlier)
    if len(reach) < len(before):
        raise FoundError(f"no end from {next(s for s in before if s not in reach)}")
    return len(before)


def test_no_order_of_events_loses_or_spoils_anything():
    assert explore(requests=3, capacity=2) > 10_000


@pytest.mark.parametrize(
    "left_out",
    [
        "client fence after writing",
        "client fence before sleeping",
        "client second look",
        "client release",
        "server fence after writing",
        "server fence before sleeping",
        "server second look",
        "server release",
        "room",
    ],
)
def test_the_explorer_finds_what_is_left_out(left_out):
    with pytest.raises(FoundError):
        explore((left_out,))
