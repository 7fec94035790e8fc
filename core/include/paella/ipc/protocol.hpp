#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>

// What a client process and the server say to each other. C++17 and nothing of the engine: clients
// include it. A change of anything here is a new kVersion.
//
// Control: packets over a Unix SOCK_SEQPACKET socket in the abstract namespace, named
// paella/<uid>/<server>. A packet is a Packet and a fixed body; a call is one packet and has one
// answer, with the call's number. The server alone sends packets unasked: kEnded, number 0.
//
// Data: two segments per client, sealed memfds that come with kWelcome. The client writes
// "requests" and the server writes "answers", which a client can only map for reading. Each holds a
// ring of its writer, and its writer's word on the other ring. Positions count from 0 and never
// wrap; position p stands in slot p % capacity.
namespace paella::ipc {

inline constexpr std::uint32_t kMagic = 0x4c454150;  // "PAEL"
inline constexpr std::uint16_t kVersion = 1;
inline constexpr std::size_t kNameBytes = 64;    // of a model, with its final 0
inline constexpr std::size_t kPathBytes = 1024;  // likewise
inline constexpr std::size_t kMaxPacketBytes = 131072;
inline constexpr std::uint64_t kAlignment = 64;  // of inputs and outputs in a memory

// ---- control

enum class Kind : std::uint16_t {
  // From the client.
  kHello = 1,     // Hello; answered by kWelcome and three descriptors: requests, answers, wake
  kModel = 2,     // ModelQuery; answered by kModelInfo
  kMemory = 3,    // MemoryQuery; answered by kMemoryInfo and one descriptor
  kRegister = 4,  // Registration: load the launch plan of that folder; answered by kDone
  kRemove = 5,    // Registration without a folder; answered by kDone when its last job has ended
  kStats = 6,     // no body; answered by kText: JSON
  // From the server.
  kWelcome = 65,
  kModelInfo = 66,
  kMemoryInfo = 67,
  kDone = 68,
  kText = 69,
  kRefused = 70,  // in answer to a call; the body is a sentence
  kEnded = 71,    // the session is over; the body is a sentence
};

struct Packet {
  std::uint32_t magic;
  std::uint16_t version;
  std::uint16_t kind;
  std::uint32_t bytes;  // of the whole packet
  std::uint32_t number;
};

struct Hello {
  std::uint32_t pid;      // as the client sees itself; for people only
  std::uint32_t lead_ns;  // > 0: wake the client so long before an answer is expected
};

struct Welcome {
  std::uint32_t session;
  std::uint32_t capacity;  // of each ring; a power of two
  std::uint64_t requests_bytes;
  std::uint64_t answers_bytes;
};

// By name, or the index-th of the list where the name is empty.
struct ModelQuery {
  std::uint32_t index;
  std::uint32_t reserved;
  char name[kNameBytes];
};

struct TensorInfo {
  char dtype[8];  // as numpy names it, in full if 8 bytes long
  std::uint32_t rank;
  std::uint32_t dims[6];
  std::uint32_t reserved;
  std::uint64_t offset;  // in the input or output of the model
  std::uint64_t bytes;
};

struct ModelInfo {
  std::uint32_t total;  // models there are
  std::uint32_t found;  // 0: no such model, and nothing below means anything
  std::uint32_t id;     // for requests; a model registered later never has it
  std::uint32_t instances;
  std::uint64_t input_bytes;
  std::uint64_t output_bytes;
  std::uint32_t inputs;   // tensors
  std::uint32_t outputs;  // tensors, after the inputs
  char name[kNameBytes];
  TensorInfo tensors[8];
};

struct MemoryQuery {
  std::uint64_t bytes;
};

struct MemoryInfo {
  std::uint32_t id;
  std::uint32_t reserved;
  std::uint64_t bytes;
};

struct Registration {
  char name[kNameBytes];
  char folder[kPathBytes];
};

// ---- data

// One request: a cache line.
struct RequestSlot {
  std::uint64_t tag;  // comes back with the answer
  std::uint32_t model;
  std::uint32_t reserved0;
  std::uint32_t input_memory;
  std::uint32_t output_memory;
  std::uint64_t input_offset;
  std::uint64_t output_offset;
  // CLOCK_MONOTONIC, or 0: when the request was due, where it had to wait at the client. Taken for
  // at most kMaxAgeNs before the server takes the request.
  std::uint64_t due_ns;
  std::uint64_t reserved1[2];
};
inline constexpr std::int64_t kMaxAgeNs = 1'000'000'000;
inline constexpr std::uint32_t kNoMemory = 0xffffffff;  // where a model has no input or no output

enum class Status : std::uint32_t {
  kOk = 0,
  kNoOutput = 1,   // done, but this server computes no outputs
  kBadModel = 2,   // no such model, or it has been removed
  kBadMemory = 3,  // no such memory of this session
  kBadRange = 4,   // input or output not wholly inside its memory, or not aligned
  kBadRequest = 5, // a reserved field is not 0
  kStopping = 6,   // the server is being shut down
  kFailed = 7,     // the device has failed
};
inline constexpr std::uint32_t kStatuses = 8;

struct AnswerSlot {
  std::uint64_t tag;
  std::uint32_t status;
  std::uint32_t reserved0;
  // CLOCK_MONOTONIC; 0 where it did not come to that.
  std::int64_t taken_ns;      // from the ring
  std::int64_t submitted_ns;  // to the dispatcher: there was a free instance of the model
  std::int64_t started_ns;    // the first kernel
  std::int64_t finished_ns;
  std::uint64_t reserved1[2];
};

using Position = std::atomic<std::uint64_t>;
static_assert(Position::is_always_lock_free && sizeof(Position) == 8);
using Flag = std::atomic<std::uint32_t>;
static_assert(Flag::is_always_lock_free && sizeof(Flag) == 4);

struct RequestsHeader {
  alignas(64) Position tail;          // requests written
  alignas(64) Position answers_head;  // answers read
  alignas(64) Flag asleep;            // not 0: send a byte with the next answer, and set it to 0
};

struct AnswersHeader {
  alignas(64) Position tail;           // answers written
  alignas(64) Position requests_head;  // requests taken
  alignas(64) Flag asleep;             // not 0: send a byte after writing a request
};

inline constexpr std::size_t kSlotsOffset = 256;

inline constexpr std::size_t requests_bytes(std::size_t capacity) {
  return kSlotsOffset + capacity * sizeof(RequestSlot);
}
inline constexpr std::size_t answers_bytes(std::size_t capacity) {
  return kSlotsOffset + capacity * sizeof(AnswerSlot);
}

// The wake socket, one stream pair per client, carries bytes without meaning in both directions,
// and each side learns of the other's end from it. Who goes to sleep sets its flag, then a full
// fence, then looks once more; who writes to a ring writes, then a full fence, then looks at the
// flag: one of the two sees the other.

static_assert(sizeof(Packet) == 16 && sizeof(Hello) == 8 && sizeof(Welcome) == 24);
static_assert(sizeof(ModelQuery) == 72 && sizeof(TensorInfo) == 56 && sizeof(ModelInfo) == 552);
static_assert(sizeof(MemoryQuery) == 8 && sizeof(MemoryInfo) == 16 && sizeof(Registration) == 1088);
static_assert(sizeof(RequestSlot) == 64 && sizeof(AnswerSlot) == 64);
static_assert(sizeof(RequestsHeader) <= kSlotsOffset && sizeof(AnswersHeader) <= kSlotsOffset);

}  // namespace paella::ipc
