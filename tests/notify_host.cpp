// The protocol of notify.cuh on CPU threads: test_notify_protocol.py puts these memory operations
// in the place of the PTX ones, with the orders that their names promise. Arguments: seed, rounds.
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <random>
#include <thread>
#include <vector>

#define PAELLA_DEVICE static inline
#define PAELLA_CALLED static inline

namespace {

struct Index {
  unsigned x = 0, y = 0, z = 0;
};
thread_local Index threadIdx, blockIdx, gridDim;

void __syncthreads() {}

}  // namespace

constexpr auto kRelaxed = std::memory_order_relaxed;

PAELLA_DEVICE unsigned paella_load(unsigned* p) { return std::atomic_ref(*p).load(kRelaxed); }
PAELLA_DEVICE unsigned long long paella_load64(unsigned long long* p) {
  return std::atomic_ref(*p).load(kRelaxed);
}
PAELLA_DEVICE void paella_store(unsigned* p, unsigned v) { std::atomic_ref(*p).store(v, kRelaxed); }
PAELLA_DEVICE unsigned paella_add(unsigned* p, unsigned v) {
  return std::atomic_ref(*p).fetch_add(v, kRelaxed);
}
PAELLA_DEVICE unsigned paella_cas(unsigned* p, unsigned expected, unsigned v) {
  std::atomic_ref(*p).compare_exchange_strong(expected, v, kRelaxed);
  return expected;
}
static unsigned inc(unsigned* p, unsigned last, std::memory_order order) {
  unsigned before = std::atomic_ref(*p).load(kRelaxed);
  while (!std::atomic_ref(*p).compare_exchange_weak(before, before >= last ? 0 : before + 1, order,
                                                    kRelaxed)) {
  }
  return before;
}
PAELLA_DEVICE unsigned paella_inc(unsigned* p, unsigned last) { return inc(p, last, kRelaxed); }
PAELLA_DEVICE unsigned paella_inc_acq_rel(unsigned* p, unsigned last) {
  return inc(p, last, std::memory_order_acq_rel);
}
PAELLA_DEVICE unsigned long long paella_add64(unsigned long long* p, unsigned long long v) {
  return std::atomic_ref(*p).fetch_add(v, kRelaxed);
}
PAELLA_DEVICE unsigned long long paella_add64_release(unsigned long long* p, unsigned long long v) {
  return std::atomic_ref(*p).fetch_add(v, std::memory_order_release);
}
PAELLA_DEVICE unsigned long long paella_add64_acq_rel(unsigned long long* p, unsigned long long v) {
  return std::atomic_ref(*p).fetch_add(v, std::memory_order_acq_rel);
}
PAELLA_DEVICE unsigned paella_load_sys(unsigned long long at) {
  return paella_load(reinterpret_cast<unsigned*>(at));
}
PAELLA_DEVICE void paella_store_sys(unsigned long long at, unsigned v) {
  paella_store(reinterpret_cast<unsigned*>(at), v);
}
PAELLA_DEVICE void paella_store64_sys(unsigned long long at, unsigned long long v) {
  std::atomic_ref(*reinterpret_cast<unsigned long long*>(at)).store(v, kRelaxed);
}
PAELLA_DEVICE void paella_fence_sys() { std::atomic_thread_fence(std::memory_order_acq_rel); }

#include "protocol.inc"

constexpr unsigned kSlots = 3;
constexpr unsigned kLaunches = 6;

static void check(bool good, const char* what) {
  if (good) return;
  std::printf("%s\n", what);
  std::exit(1);
}

struct Words {
  unsigned finished = 0, placed = 0;
};

struct Host {
  Words words[kSlots];
  unsigned owed[2][kSlots] = {}, seen[2][kSlots] = {};
  unsigned read = 0;
  std::vector<unsigned long long> ring;
  unsigned long long told[2][kSlots] = {};

  void drain() {
    for (unsigned kind = 0; kind < 2; ++kind) {
      for (unsigned slot = 0; slot < kSlots; ++slot) {
        const unsigned now = paella_load(&owed[kind][slot]);
        told[kind][slot] += now - seen[kind][slot];
        seen[kind][slot] = now;
      }
    }
    const auto size = static_cast<unsigned>(ring.size());
    for (;;) {
      const auto m = std::atomic_ref(ring[read & (size - 1)]).load(std::memory_order_acquire);
      if (m >> 63 != ((read & size) == 0)) return;
      check(static_cast<unsigned>(m) > 0, "an empty message");
      told[m >> 62 & 1][m >> 32 & ((1u << 30) - 1)] += static_cast<unsigned>(m);
      std::atomic_ref(read).store(read + 1, std::memory_order_release);
    }
  }
};

static unsigned long long address(void* p) { return reinterpret_cast<unsigned long long>(p); }

struct Device {
  PaellaNotes notes{};
  PaellaSlot slots[kSlots]{};
};
static_assert(sizeof(Device) == sizeof(PaellaNotes) + kSlots * sizeof(PaellaSlot));

// Launches of one slot, one after the other, their blocks on four threads.
static unsigned long long stream(Device& device, Host& host, unsigned slot, unsigned seed) {
  Words& words = host.words[slot];
  const unsigned long long words_at = address(&words);
  std::mt19937 random(seed);
  unsigned long long blocks = 0;
  unsigned launches = 0;
  for (unsigned n = 0; n < kLaunches; ++n) {
    const unsigned grid = 1 + random() % 60, level = random() % 9;
    const bool counts = level > 1;
    std::vector<int> results(grid);
    std::atomic<unsigned> next{0};
    std::vector<std::thread> sms;
    for (int i = 0; i < 4; ++i) {
      sms.emplace_back([&] {
        gridDim = {grid, 1, 1};
        for (unsigned b; (b = next++) < grid;) {
          blockIdx = {b, 0, 0};
          paella_begin(&device.slots[slot], words_at, level);
          if (b % 3 == 0) std::this_thread::yield();
          results[b] = 1;
          paella_end(&device.slots[slot], words_at, level);
        }
      });
    }
    launches += level > 0;
    blocks += counts ? grid : 0;
    if (level > 0) {
      while (std::atomic_ref(words.finished).load(std::memory_order_acquire) != launches) {
        std::this_thread::yield();
      }
      for (const int result : results) check(result == 1, "a flag before a result");
    }
    for (auto& sm : sms) sm.join();
    check(words.finished == launches, "a launch told twice");
    check(words.placed == launches, "a launch not placed");
  }
  return blocks;
}

static void round(std::mt19937& random) {
  Host host;
  host.ring.resize(1u << random() % 6);
  Device device;
  device.notes.ring_at = address(host.ring.data());
  device.notes.read_at = address(&host.read);
  device.notes.ring_size = device.notes.free = static_cast<unsigned>(host.ring.size());
  for (unsigned s = 0; s < kSlots; ++s) {
    PaellaSlot& slot = device.slots[s];
    slot.index = s;
    slot.owed_at[0] = address(&host.owed[0][s]);
    slot.owed_at[1] = address(&host.owed[1][s]);
  }
  const bool reads_along = random() % 3 > 0;
  std::atomic<bool> over{false};
  std::thread reader([&] {
    for (; !over; std::this_thread::yield()) {
      if (reads_along) host.drain();
    }
  });
  unsigned long long launched[kSlots];
  std::vector<std::thread> streams;
  for (unsigned s = 0; s < kSlots; ++s) {
    const auto seed = static_cast<unsigned>(random());
    streams.emplace_back([&, s, seed] { launched[s] = stream(device, host, s, seed); });
  }
  for (auto& s : streams) s.join();
  over = true;
  reader.join();
  host.drain();
  const PaellaNotes& notes = device.notes;
  check(notes.free + notes.head - notes.granted == notes.ring_size, "ring words lost");
  for (unsigned s = 0; s < kSlots; ++s) {
    for (int kind = 0; kind < 2; ++kind) {
      check(host.told[kind][s] == launched[s], "blocks lost or told twice");
    }
    const PaellaSlot& slot = device.slots[s];
    check(static_cast<unsigned>(slot.done) == 0 && slot.started == 0 && slot.ended == 0 &&
              slot.owed[0] == 0 && slot.owed[1] == 0,
          "counters that are not back at zero");
  }
}

int main(int, char** arguments) {
  std::mt19937 random(std::atoi(arguments[1]));
  for (int i = std::atoi(arguments[2]); i > 0; --i) round(random);
  std::printf("good\n");
}
