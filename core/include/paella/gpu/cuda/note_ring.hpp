#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "paella/gpu/cuda/handles.hpp"

// The host's side of the notifications of instrumented kernels; their meaning is in
// core/device_code/notify.cuh, and the layouts here are that file's.
namespace paella::gpu::cuda {

// The words of a slot that kernels write, and one that the driver writes for the host: a line of
// mapped memory for each slot.
struct alignas(64) SlotWords {
  std::uint32_t finished;  // launches, by the GPU
  std::uint32_t placed;
  std::uint32_t written;  // 1 behind a unit's last operation; the host clears it before the unit
  std::uint32_t position;  // of the chained kernel placed last: all before it have finished
};

class NoteRing {
 public:
  // `messages` is a power of two.
  NoteRing(std::int32_t slots, std::uint32_t messages);

  SlotWords& words(std::int32_t slot) { return words_.as<SlotWords>()[slot]; }
  // What an instrumented kernel takes: its slot and its words, both as the GPU sees them.
  Pointer slot_at(std::int32_t slot) const;
  Pointer words_at(std::int32_t slot) const;
  // What a chained kernel takes.
  Pointer position_at(std::int32_t slot) const {
    return words_at(slot) + offsetof(SlotWords, position);
  }
  std::int32_t slots() const { return slots_; }

  // Calls told(finished, slot, blocks) for every message since the last time.
  template <class Told>
  void drain(Told told) {
    const auto* ring = ring_.as<std::uint64_t>();
    std::uint32_t read = read_;
    for (;; ++read) {
      const std::uint64_t m = load(ring + (read & (size_ - 1)));
      if ((m >> 63 != 0) != ((read & size_) == 0)) break;
      told((m >> 62 & 1) != 0, static_cast<std::int32_t>(m >> 32 & 0x3fffffff),
           static_cast<std::int64_t>(m & 0xffffffff));
    }
    if (read != read_) __atomic_store_n(read_at_.as<std::uint32_t>(), read, __ATOMIC_RELEASE);
    read_ = read;
  }

  // The same for what did not go into the ring; complete when a launch of the slot has ended.
  template <class Told>
  void drain_owed(std::int32_t slot, Told told) {
    for (int kind = 0; kind < 2; ++kind) {
      const std::uint32_t now = load(owed_.as<std::uint32_t>() + kind * slots_ + slot);
      std::uint32_t& seen = owed_seen_[kind * slots_ + slot];
      if (now != seen) told(kind == 1, slot, std::int64_t{now - seen});
      seen = now;
    }
  }

  template <class T>
  static T load(const T* at) {
    return __atomic_load_n(at, __ATOMIC_ACQUIRE);
  }

 private:
  std::int32_t slots_;
  std::uint32_t size_, read_ = 0;
  MappedMemory words_, owed_, ring_, read_at_;
  std::vector<std::uint32_t> owed_seen_;
  OwnedMemory device_;  // header and slots
};

}  // namespace paella::gpu::cuda
