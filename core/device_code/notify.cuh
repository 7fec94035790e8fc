// What an instrumented kernel does to tell the host how far it is. The compiler puts this text in
// front of a module's kernels and calls paella_begin and paella_end around the body of each.
//
// A launch is given (slot, words, level): its slot in device memory, the address of the slot's two
// words in mapped host memory, and one of
//   level 0   silent
//   level 1   two words: all blocks placed, all blocks finished
//   level n   those, and a message for every n blocks started and every n blocks finished, with one
//             more for a last partial group; n < 2^31
// Kernels issued together need it at the last of them only; the others can be plain, or chained ones
// (paella/compiler/chain.py).
// A slot belongs to one launch at a time: launches that may run at once take different slots,
// launches one after the other (one stream, the replays of a graph) may share one. A launch has
// fewer than 2^32 blocks. A kernel that fails tells nothing.
//
// Words (mapped host memory; 32 bits, they wrap; nobody ever clears them; only the GPU writes them.
// The two of a slot are neighbours, so that a host that polls many slots reads few lines.)
//   finished[slot]  launches of the slot all of whose blocks have finished. Whoever reads n there
//                   with acquire sees what every block of the first n launches wrote.
//   placed[slot]    launches of the slot all of whose blocks have been placed. At level 1 the block
//                   with the highest linear index says so when it starts: the hardware places
//                   blocks in that order, but nothing promises it, so this is a hint for
//                   scheduling and orders no memory. At level n it is counted.
//
// Messages (mapped host memory): a ring of 2^k 64-bit words, count | slot << 32 | kind << 62 |
//   phase << 63; kind 0 is started, 1 finished. Message m lies at m mod 2^k, and its phase is 1 in
//   the first lap, 0 in the second, and so on, so that a zeroed ring starts out empty. The host
//   reads in order until the phase is not the expected one, then releases the number of messages
//   read so far into `read`. The results of the blocks that a finished message counts are visible
//   to who acquires it.
//   No block waits for the host. While the ring is full, counts are owed: they add up in the slot,
//   and the last block of the launch adds them to owed[kind][slot] (words as above, blocks so far)
//   before it writes finished[slot]. Messages and owed words together count every block once.
//   By the time finished[slot] counts a launch, all of its messages have been written.
//
// Ordering, in the terms of the PTX memory model (PTX ISA, "Memory Consistency Model"):
//   - `done` counts launches in its high half and blocks in its low one. The block that tells the
//     placement adds one launch less the number of its blocks; every block that ends (at level n
//     every group) adds itself. So the low half is back at zero when the last one ends and at no
//     end before it: until the placement it counts up and lacks at least the block that tells.
//     Both additions return the launches so far. Nothing is reset.
//   - Words are stored and never added to: few GPUs have atomics on host memory. At a smaller scope
//     than the system's an addition is none to the host, and may hold up the flag beside it: with
//     such additions jobs on an H100 stood still for up to a second.
//   - bar.sync makes the writes of all threads of a block precede, in causality order, what its
//     thread 0 does afterwards.
//   - At level 1 thread 0 then does atom.release.gpu on `done`. The atomics on `done` are a chain
//     of read-modify-writes, so every block's release pattern is observed by the last block's
//     atomic; that one followed by fence.acq_rel.sys is an acquire pattern. They synchronize.
//   - The same fence followed by st.relaxed.sys of the flag is a release pattern at system scope.
//     The host's acquire load that reads the flag synchronizes with it; causality order is
//     transitive, so all blocks' writes precede the host's read and what the host does next.
//   - At level n, atom.acq_rel.gpu on `ended` takes the place of the first step: the block that
//     closes a group has acquired all blocks counted before. It posts the message behind a
//     fence.acq_rel.sys and only then adds the group to `done` (acq_rel again), so the last one to
//     do that has acquired every group, every message and everything owed.
//   - A ring word is reused only after: the host has read it and released `read`; some block has
//     read `read` and, a fence behind, added what is new to `free`; the writer has taken one from
//     `free` (a chain of read-modify-writes again), its own message's fence behind. Tickets never
//     outnumber what was taken from `free`, so no message is overwritten unread.
//   - Counters are back at zero before the flag is written, so who has seen the flag may launch on
//     the same slot in another stream.
//   - The write of placed[slot] precedes its block's release, and so the flag: who has acquired
//     finished[slot] sees at least as many launches placed.
// Needs sm_70 or newer.

#ifndef PAELLA_NOTIFY_CUH
#define PAELLA_NOTIFY_CUH

// Device memory; the host fills in addresses and indices and leaves all counters zero. `at` names
// the address of a word in mapped host memory. Level 1 touches nothing but `done`.
struct PaellaSlot {
  unsigned long long done;  // launches << 32, less the unfinished blocks of the present one
  unsigned long long owed_at[2];
  unsigned owed[2];       // by the present launch
  unsigned told_owed[2];  // what the owed words hold
  unsigned index;
  unsigned started;
  unsigned ended;
  unsigned reserved[3];
};

struct PaellaNotes {
  unsigned long long ring_at;
  unsigned long long read_at;
  unsigned ring_size;
  unsigned head;     // messages so far
  unsigned free;     // words that may be taken; the host starts it at ring_size
  unsigned granted;  // of the words that the host has read, those that came back to `free`
  unsigned reserved[8];
  // and behind it the slots
};

static_assert(sizeof(PaellaSlot) == 64 && sizeof(PaellaNotes) == 64, "the host's layout");

enum { kPaellaStarted, kPaellaFinished };

// --- Memory operations, each one instruction and named after it.

#define PAELLA_DEVICE static __device__ __forceinline__
#define PAELLA_CALLED static __device__ __noinline__

PAELLA_DEVICE unsigned long long paella_address(const void* p) {
  return __cvta_generic_to_global(p);
}

// In device memory, relaxed at GPU scope unless the name says more.
PAELLA_DEVICE unsigned paella_load(const unsigned* p) {
  unsigned v;
  asm volatile("ld.relaxed.gpu.global.u32 %0, [%1];" : "=r"(v) : "l"(paella_address(p)) : "memory");
  return v;
}

PAELLA_DEVICE unsigned long long paella_load64(const unsigned long long* p) {
  unsigned long long v;
  asm volatile("ld.relaxed.gpu.global.u64 %0, [%1];" : "=l"(v) : "l"(paella_address(p)) : "memory");
  return v;
}

PAELLA_DEVICE void paella_store(unsigned* p, unsigned v) {
  asm volatile("st.relaxed.gpu.global.u32 [%0], %1;" ::"l"(paella_address(p)), "r"(v) : "memory");
}

PAELLA_DEVICE unsigned paella_add(unsigned* p, unsigned v) {
  unsigned before;
  asm volatile("atom.relaxed.gpu.global.add.u32 %0, [%1], %2;"
               : "=r"(before)
               : "l"(paella_address(p)), "r"(v)
               : "memory");
  return before;
}

PAELLA_DEVICE unsigned paella_cas(unsigned* p, unsigned expected, unsigned v) {
  unsigned before;
  asm volatile("atom.relaxed.gpu.global.cas.b32 %0, [%1], %2, %3;"
               : "=r"(before)
               : "l"(paella_address(p)), "r"(expected), "r"(v)
               : "memory");
  return before;
}

// Counts up to `last`, then from 0 again.
PAELLA_DEVICE unsigned paella_inc(unsigned* p, unsigned last) {
  unsigned before;
  asm volatile("atom.relaxed.gpu.global.inc.u32 %0, [%1], %2;"
               : "=r"(before)
               : "l"(paella_address(p)), "r"(last)
               : "memory");
  return before;
}

PAELLA_DEVICE unsigned paella_inc_acq_rel(unsigned* p, unsigned last) {
  unsigned before;
  asm volatile("atom.acq_rel.gpu.global.inc.u32 %0, [%1], %2;"
               : "=r"(before)
               : "l"(paella_address(p)), "r"(last)
               : "memory");
  return before;
}

PAELLA_DEVICE unsigned long long paella_add64(unsigned long long* p, unsigned long long v) {
  unsigned long long before;
  asm volatile("atom.relaxed.gpu.global.add.u64 %0, [%1], %2;"
               : "=l"(before)
               : "l"(paella_address(p)), "l"(v)
               : "memory");
  return before;
}

PAELLA_DEVICE unsigned long long paella_add64_release(unsigned long long* p, unsigned long long v) {
  unsigned long long before;
  asm volatile("atom.release.gpu.global.add.u64 %0, [%1], %2;"
               : "=l"(before)
               : "l"(paella_address(p)), "l"(v)
               : "memory");
  return before;
}

PAELLA_DEVICE unsigned long long paella_add64_acq_rel(unsigned long long* p, unsigned long long v) {
  unsigned long long before;
  asm volatile("atom.acq_rel.gpu.global.add.u64 %0, [%1], %2;"
               : "=l"(before)
               : "l"(paella_address(p)), "l"(v)
               : "memory");
  return before;
}

// In mapped host memory, relaxed at system scope.
PAELLA_DEVICE unsigned paella_load_sys(unsigned long long at) {
  unsigned v;
  asm volatile("ld.relaxed.sys.global.u32 %0, [%1];" : "=r"(v) : "l"(at) : "memory");
  return v;
}

PAELLA_DEVICE void paella_store_sys(unsigned long long at, unsigned v) {
  asm volatile("st.relaxed.sys.global.u32 [%0], %1;" ::"l"(at), "r"(v) : "memory");
}

PAELLA_DEVICE void paella_store64_sys(unsigned long long at, unsigned long long v) {
  asm volatile("st.relaxed.sys.global.u64 [%0], %1;" ::"l"(at), "l"(v) : "memory");
}

PAELLA_DEVICE void paella_fence_sys() { asm volatile("fence.acq_rel.sys;" ::: "memory"); }

// --- The protocol.

PAELLA_DEVICE bool paella_first_thread() {
  return (threadIdx.x | threadIdx.y | threadIdx.z) == 0;
}

PAELLA_DEVICE unsigned paella_blocks() { return gridDim.x * gridDim.y * gridDim.z; }

PAELLA_DEVICE bool paella_highest_block() {
  return blockIdx.x == gridDim.x - 1 && blockIdx.y == gridDim.y - 1 && blockIdx.z == gridDim.z - 1;
}

PAELLA_DEVICE PaellaNotes* paella_notes_of(PaellaSlot* slot, unsigned index) {
  return reinterpret_cast<PaellaNotes*>(slot - index) - 1;
}

PAELLA_DEVICE bool paella_take_word(PaellaNotes* notes) {
  if (static_cast<int>(paella_add(&notes->free, ~0u)) > 0) return true;
  paella_add(&notes->free, 1);
  return false;
}

// Takes a word of a ring in which none was free, if the host has read some since.
PAELLA_DEVICE bool paella_take_read_word(PaellaNotes* notes) {
  const unsigned granted = paella_load(&notes->granted);
  const unsigned read = paella_load_sys(paella_load64(&notes->read_at));
  if (static_cast<int>(read - granted) <= 0) return false;
  paella_fence_sys();
  if (paella_cas(&notes->granted, granted, read) != granted) {
    return paella_take_word(notes);  // another block has just given them back
  }
  paella_add(&notes->free, read - granted - 1);
  return true;
}

// Writes a message, or owes it where the ring is full. There is no loop in here, nor elsewhere in
// this file: ptxas schedules a kernel's own loops worse in the company of another.
PAELLA_DEVICE void paella_post(PaellaSlot* slot, unsigned kind, unsigned count) {
  const unsigned index = paella_load(&slot->index);
  PaellaNotes* notes = paella_notes_of(slot, index);
  if (!paella_take_word(notes) && !paella_take_read_word(notes)) {
    paella_add(&slot->owed[kind], count);
    return;
  }
  const unsigned size = paella_load(&notes->ring_size);
  const unsigned head = paella_add(&notes->head, 1);
  const unsigned phase = (head & size) == 0;
  const unsigned long long message =
      static_cast<unsigned long long>(index | kind << 30 | phase << 31) << 32 | count;
  paella_fence_sys();
  paella_store64_sys(paella_load64(&notes->ring_at) + 8ull * (head & (size - 1)), message);
}

// The `nth` block of `blocks`: how many blocks the group has that it closes, 0 if it closes none.
PAELLA_DEVICE unsigned paella_closes(unsigned nth, unsigned blocks, unsigned level) {
  const unsigned in_group = (nth - 1) % level + 1;
  return nth == blocks || in_group == level ? in_group : 0;
}

PAELLA_DEVICE void paella_tell_owed(PaellaSlot* slot, unsigned kind) {
  const unsigned owed = paella_load(&slot->owed[kind]);
  if (owed == 0) return;
  const unsigned told = paella_load(&slot->told_owed[kind]) + owed;
  paella_store(&slot->owed[kind], 0);
  paella_store(&slot->told_owed[kind], told);
  paella_store_sys(paella_load64(&slot->owed_at[kind]), told);
}

// After the addition to `done` that brought its low half back to zero; `done` is its result.
PAELLA_DEVICE void paella_finish(unsigned long long words, unsigned long long done) {
  paella_fence_sys();
  paella_store_sys(words, static_cast<unsigned>(done >> 32));
}

PAELLA_DEVICE void paella_begin(PaellaSlot* slot, unsigned long long words, unsigned level) {
  if (level == 0 || !paella_first_thread()) return;
  const unsigned blocks = paella_blocks();
  if (level > 1) {
    const unsigned before = paella_inc(&slot->started, blocks - 1);
    const unsigned count = paella_closes(before + 1, blocks, level);
    if (count) paella_post(slot, kPaellaStarted, count);
    if (before + 1 != blocks) return;
  } else if (!paella_highest_block()) {
    return;
  }
  // This block's own end comes later, so the launch is counted before its last block ends.
  const unsigned long long done = paella_add64(&slot->done, (1ull << 32) - blocks);
  paella_store_sys(words + 4, static_cast<unsigned>(done >> 32) + 1);
}

// Not inlined: in the company of this code ptxas schedules a kernel's own loops worse, up to 10 % of
// a model's time on an H100.
PAELLA_CALLED void paella_told_end(PaellaSlot* slot, unsigned long long words, unsigned level) {
  __syncthreads();
  if (!paella_first_thread()) return;
  if (level == 1) {
    const unsigned long long done = paella_add64_release(&slot->done, 1) + 1;
    if (static_cast<unsigned>(done) == 0) paella_finish(words, done);
    return;
  }
  const unsigned blocks = paella_blocks();
  const unsigned before = paella_inc_acq_rel(&slot->ended, blocks - 1);
  const unsigned count = paella_closes(before + 1, blocks, level);
  if (count == 0) return;
  paella_post(slot, kPaellaFinished, count);
  const unsigned long long done = paella_add64_acq_rel(&slot->done, count) + count;
  if (static_cast<unsigned>(done) != 0) return;
  paella_tell_owed(slot, kPaellaStarted);
  paella_tell_owed(slot, kPaellaFinished);
  paella_finish(words, done);
}

PAELLA_DEVICE void paella_end(PaellaSlot* slot, unsigned long long words, unsigned level) {
  if (level) paella_told_end(slot, words, level);
}

#undef PAELLA_DEVICE
#undef PAELLA_CALLED

#endif  // PAELLA_NOTIFY_CUH
