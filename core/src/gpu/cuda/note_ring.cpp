#include "paella/gpu/cuda/note_ring.hpp"

#include <cstring>
#include <string>
#include <vector>

#include "paella/error.hpp"

namespace paella::gpu::cuda {
namespace {

struct Header {
  Pointer ring_at, read_at;
  std::uint32_t ring_size, head, free, granted, reserved[8];
};
struct Slot {
  std::uint64_t done;
  Pointer owed_at[2];
  std::uint32_t owed[2], told_owed[2], index, started, ended, reserved[3];
};
static_assert(sizeof(Header) == 64 && sizeof(Slot) == 64, "as in notify.cuh");

std::int32_t checked(std::int32_t slots, std::uint32_t messages) {
  if (slots < 1 || slots > 1 << 30) {
    throw Error(std::to_string(slots) + " slots: at least one is needed, and at most 2^30");
  }
  if (messages == 0 || (messages & (messages - 1)) != 0 || messages >= 1u << 31) {
    throw Error("a ring of " + std::to_string(messages) +
                " messages: the number has to be a power of two, and at most 2^30");
  }
  return slots;
}

}  // namespace

NoteRing::NoteRing(std::int32_t slots, std::uint32_t messages)
    : slots_(checked(slots, messages)),
      size_(messages),
      words_(sizeof(SlotWords) * slots),
      owed_(2 * sizeof(std::uint32_t) * slots),
      ring_(sizeof(std::uint64_t) * messages),
      read_at_(64),
      owed_seen_(2 * static_cast<std::size_t>(slots)),
      device_(make_memory(sizeof(Header) + sizeof(Slot) * slots)) {
  std::vector<unsigned char> image(sizeof(Header) + sizeof(Slot) * slots);
  Header header{};
  header.ring_at = ring_.on_device();
  header.read_at = read_at_.on_device();
  header.ring_size = header.free = messages;
  std::memcpy(image.data(), &header, sizeof header);
  for (std::int32_t s = 0; s < slots; ++s) {
    Slot slot{};
    slot.index = static_cast<std::uint32_t>(s);
    slot.owed_at[0] = owed_.on_device() + sizeof(std::uint32_t) * s;
    slot.owed_at[1] = owed_.on_device() + sizeof(std::uint32_t) * (slots + s);
    std::memcpy(image.data() + sizeof header + sizeof slot * s, &slot, sizeof slot);
  }
  const OwnedStream stream = make_stream();
  const Driver& d = driver();
  d.check(d.copy_in(device_.get(), image.data(), image.size(), stream.get()),
          "setting up notifications");
  d.check(d.stream_synchronize(stream.get()), "setting up notifications");
}

Pointer NoteRing::slot_at(std::int32_t slot) const {
  return device_.get() + sizeof(Header) + sizeof(Slot) * slot;
}

Pointer NoteRing::words_at(std::int32_t slot) const {
  return words_.on_device() + sizeof(SlotWords) * slot;
}

}  // namespace paella::gpu::cuda
