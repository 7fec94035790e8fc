// CUDA C++ on the CPU, as far as the model compiler's kernels need it: cuda_on_cpu.py puts this in
// front of their source. Blocks run one after the other; a block's threads are fibers that give way
// at barriers and shuffles alone, in an order that the caller chooses. So a kernel whose result
// depends on that order has a race. Shared memory is NaN when a block starts. Also found: barriers
// that not all threads of a block reach, and vectors that are not aligned. Odd orders take the
// blocks from the last to the first.
#include <setjmp.h>
#include <ucontext.h>

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <type_traits>
#include <utility>

#define __global__
#define __device__
#define __forceinline__ inline
#define __noinline__
#define __launch_bounds__(...)
#define __syncthreads() cuda::barrier(__LINE__)
#define __shfl_down_sync(mask, v, by, width) cuda::shuffle(v, cuda::Move::kDown, by, width)
#define __shfl_up_sync(mask, v, by, width) cuda::shuffle(v, cuda::Move::kUp, by, width)
#define __shfl_xor_sync(mask, v, by, width) cuda::shuffle(v, cuda::Move::kXor, by, width)
#define __shfl_sync(mask, v, from, width) cuda::shuffle(v, cuda::Move::kFrom, from, width)
#define __activemask() 0xffffffffu  // no divergence: a shuffle waits for the whole warp
#define uint unsigned int
#define uchar unsigned char
#define ushort unsigned short
// cuda_on_cpu.py writes `__shared__ T name[n];` so; the lambda's type tells it from all others.
#define SHARED(T, name, n) T(&name)[n] = cuda::shared<T, n>([] {})

template <class T>
T max(T a, T b) {
  return a < b ? b : a;
}
template <class T>
T min(T a, T b) {
  return b < a ? b : a;
}
inline float __expf(float x) { return std::exp(x); }
inline float __logf(float x) { return std::log(x); }
inline float __powf(float x, float y) { return std::pow(x, y); }
inline float __fdividef(float x, float y) { return x / y; }
inline float rsqrtf(float x) { return 1.0f / std::sqrt(x); }

struct dim3 {
  unsigned x, y, z;
};
static dim3 threadIdx, blockIdx, blockDim, gridDim;

namespace cuda {

constexpr unsigned kWarp = 32, kMostThreads = 1024;
constexpr std::size_t kStack = 64 << 10;

static const char* error = nullptr;  // the first one

inline void fail(const char* what) {
  if (!error) error = what;
}

// The address is hidden from the compiler, which takes every vector to be aligned.
template <class T>
void* aligned(T* p, std::size_t bytes) {
  asm("" : "+r"(p));
  if (reinterpret_cast<std::uintptr_t>(p) % bytes) fail("a vector is not aligned");
  return const_cast<std::remove_const_t<T>*>(p);
}

enum class State { kReady, kAtBarrier, kInShuffle, kDone };
enum class Move { kDown, kUp, kXor, kFrom };

struct Thread {
  State state;
  int line;  // of the barrier it waits at
  unsigned shuffles;
  bool has_stack;  // a fiber is made once, for all blocks to come
  jmp_buf at;
  std::uint64_t sent[2];  // to other lanes, by even and odd shuffles
};

static Thread threads[kMostThreads];
alignas(64) static char stacks[kMostThreads][kStack];
static jmp_buf scheduler;
static ucontext_t start, back;
static unsigned current, live;
static unsigned long block;  // blocks run so far
static void (*body)(void**);
static void** arguments;

[[gnu::noinline]] inline void wait(State why) {
  threads[current].state = why;
  if (!_setjmp(threads[current].at)) _longjmp(scheduler, 1);
}

[[gnu::noinline]] inline void barrier(int line) {
  threads[current].line = line;
  wait(State::kAtBarrier);
}

template <class T>
[[gnu::noinline]] T shuffle(T value, Move move, unsigned by, unsigned width) {
  static_assert(sizeof(T) <= 8);
  const unsigned me = current, odd = threads[me].shuffles++ % 2;
  std::memcpy(&threads[me].sent[odd], &value, sizeof(T));
  wait(State::kInShuffle);
  const unsigned lane = me % kWarp, segment = lane / width * width;
  unsigned from = lane;
  if (move == Move::kDown && lane + by < segment + width) from = lane + by;
  if (move == Move::kUp && lane >= segment + by) from = lane - by;
  if (move == Move::kXor && (lane ^ by) < segment + width) from = lane ^ by;
  if (move == Move::kFrom) from = segment + by % width;
  const unsigned other = me - lane + from;
  std::memset(&value, 0xff, sizeof(T));  // of a lane that is not there
  if (other < live) std::memcpy(&value, &threads[other].sent[odd], sizeof(T));
  return value;
}

template <class T, int n, class Site>
T (&shared(Site))[n] {
  alignas(64) static char memory[n * sizeof(T)];
  static unsigned long filled = 0;
  if (filled != block) std::memset(memory, 0xff, sizeof(memory));
  filled = block;
  return reinterpret_cast<T(&)[n]>(memory);
}

inline void enter() {
  for (;;) {
    body(arguments);
    wait(State::kDone);
  }
}

[[gnu::noinline]] inline void resume(unsigned t) {
  current = t;
  threadIdx = {t % blockDim.x, t / blockDim.x % blockDim.y, t / blockDim.x / blockDim.y};
  if (_setjmp(scheduler)) return;
  if (threads[current].has_stack) _longjmp(threads[current].at, 1);
  threads[current].has_stack = true;
  getcontext(&start);
  start.uc_stack.ss_sp = stacks[current];
  start.uc_stack.ss_size = kStack;
  start.uc_link = nullptr;
  makecontext(&start, enter, 0);
  swapcontext(&back, &start);
}

inline bool all(unsigned from, unsigned to, State state) {
  for (unsigned t = from; t < to; ++t) {
    if (threads[t].state != state) return false;
  }
  return true;
}

inline void set(unsigned from, unsigned to, State state) {
  for (unsigned t = from; t < to; ++t) threads[t].state = state;
}

// Lets warps whose threads are all in a shuffle go on, or the block if all are at one barrier.
inline bool release() {
  bool any = false;
  for (unsigned w = 0; w < live; w += kWarp) {
    const unsigned end = min(w + kWarp, live);
    if (!all(w, end, State::kInShuffle)) continue;
    set(w, end, State::kReady);
    any = true;
  }
  if (any) return true;
  if (all(0, live, State::kDone)) return false;
  bool together = all(0, live, State::kAtBarrier);
  for (unsigned t = 1; t < live; ++t) together &= threads[t].line == threads[0].line;
  if (!together) fail("not all threads of a block reach the same barrier or shuffle");
  if (together) set(0, live, State::kReady);
  return together;
}

// After an error threads are left in the middle of their bodies.
inline void forget() {
  for (Thread& t : threads) t = {};
}

// Order 0 is forward, 1 backward; any other is the seed of a shuffle.
inline void fill(unsigned* order_of, unsigned n, unsigned order) {
  for (unsigned i = 0; i < n; ++i) order_of[i] = order == 1 ? n - 1 - i : i;
  for (unsigned i = n; order > 1 && i > 1; --i) {
    order = order * 1664525u + 1013904223u | 2u;
    std::swap(order_of[i - 1], order_of[(order >> 8) % i]);
  }
}

template <class T>
T argument(void* p) {
  if constexpr (std::is_pointer_v<T>) return static_cast<T>(p);
  else return static_cast<T>(reinterpret_cast<std::uintptr_t>(p));
}

template <auto kernel, class... Types, std::size_t... i>
void call(void (*)(Types...), void** args, std::index_sequence<i...>) {
  kernel(argument<Types>(args[i])...);
}

template <class... Types>
constexpr auto indices(void (*)(Types...)) {
  return std::index_sequence_for<Types...>();
}

// Runs all blocks of a launch; returns what is wrong with the kernel, or null.
template <auto kernel>
const char* launch(void** args, const unsigned* dims, unsigned order) {
  gridDim = {dims[0], dims[1], dims[2]};
  blockDim = {dims[3], dims[4], dims[5]};
  live = blockDim.x * blockDim.y * blockDim.z;
  if (live > kMostThreads) return "a block has more than 1024 threads";
  error = nullptr;
  arguments = args;
  body = [](void** a) { call<kernel>(kernel, a, indices(kernel)); };
  static unsigned turns[kMostThreads];
  fill(turns, live, order);
  const unsigned blocks = gridDim.x * gridDim.y * gridDim.z;
  for (unsigned i = 0; i < blocks && !error; ++i) {
    const unsigned b = order % 2 ? blocks - 1 - i : i;
    ++block;
    blockIdx = {b % gridDim.x, b / gridDim.x % gridDim.y, b / gridDim.x / gridDim.y};
    set(0, live, State::kReady);
    do {
      for (unsigned t = 0; t < live; ++t) {
        if (threads[turns[t]].state == State::kReady) resume(turns[t]);
      }
    } while (release());
    if (error) forget();
  }
  return error;
}

}  // namespace cuda

// A vector in memory that is read or written whole must be aligned, as on the GPU.
#define VECTOR(name, T, n, members, parameters, initialise)                                 \
  struct alignas(n * sizeof(T)) name {                                                      \
    T members;                                                                              \
    name() = default;                                                                       \
    name parameters : initialise {}                                                         \
    name(const name& other) { *this = other; }                                              \
    name& operator=(const name& other) {                                                    \
      std::memmove(cuda::aligned(this, n * sizeof(T)), cuda::aligned(&other, n * sizeof(T)), \
                   sizeof(name));                                                           \
      return *this;                                                                         \
    }                                                                                       \
  };                                                                                        \
  template <class... A>                                                                     \
  name make_##name(A... a) {                                                                \
    return name(a...);                                                                      \
  }
#define LIST(...) __VA_ARGS__
#define VECTOR2(name, T) VECTOR(name, T, 2, LIST(x, y), (T a, T b), LIST(x(a), y(b)))
#define VECTOR4(name, T) \
  VECTOR(name, T, 4, LIST(x, y, z, w), (T a, T b, T c, T d), LIST(x(a), y(b), z(c), w(d)))
VECTOR2(float2, float)
VECTOR4(float4, float)
VECTOR2(int2, int)
VECTOR4(int4, int)
