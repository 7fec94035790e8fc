// Clients as a benchmark wants them; benchmarks/ipc.py compiles and runs this.
//
//   ipc_client SERVER WAKE turns MODEL COUNT      one request at a time: quantiles of a round trip
//   ipc_client SERVER WAKE loop MODEL MS          one at a time from $START_NS on: how many
//   ipc_client SERVER WAKE stream MODEL MS        as many as the ring holds: requests per second
//   ipc_client SERVER WAKE check MODEL COUNT      the same, every answer and output looked at
//   ipc_client - - inside BYTES COUNT             turns between two threads of this process

#include <sys/resource.h>

#include <algorithm>
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <thread>
#include <vector>

#include "paella/client.hpp"

namespace {

using paella::detail::now_ns;

constexpr std::uint64_t kMemory = 128 << 20;  // of a client, at most
constexpr auto kNoOutput = static_cast<std::uint32_t>(paella::ipc::Status::kNoOutput);

double cpu_s() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  const auto seconds = [](timeval t) { return static_cast<double>(t.tv_sec) + t.tv_usec * 1e-6; };
  return seconds(usage.ru_utime) + seconds(usage.ru_stime);
}

std::uint64_t aligned(std::uint64_t bytes) { return (bytes + 63) / 64 * 64; }

// Where the requests of a client have their inputs and outputs.
struct Places {
  Places(paella::Client& client, const paella::ModelInfo& m, std::size_t count)
      : model(m), stride(aligned(m.input_bytes) + aligned(m.output_bytes)) {
    if (stride > 0) memory = client.memory(stride * count);
  }
  paella::Call call(std::uint64_t tag, std::size_t place) const {
    const std::uint64_t at = place * stride;
    return {tag, model.id, memory.id, at, memory.id, at + aligned(model.input_bytes)};
  }
  char* input(std::size_t place) const { return memory.data + place * stride; }
  char* output(std::size_t place) const { return input(place) + aligned(model.input_bytes); }

  paella::ModelInfo model;
  std::uint64_t stride;
  paella::Memory memory{paella::ipc::kNoMemory, nullptr, 0};
};

void print_turns(std::vector<std::int64_t>& ns, double cpu, double wall_s) {
  std::sort(ns.begin(), ns.end());
  const auto at = [&](double q) {
    return static_cast<double>(ns[static_cast<std::size_t>(static_cast<double>(ns.size()) * q)]) * 1e-3;
  };
  std::printf("{\"p50_us\": %.3f, \"p99_us\": %.3f, \"max_us\": %.1f, \"cpu\": %.4f, \"rate\": %.1f}\n",
              at(0.5), at(0.99), static_cast<double>(ns.back()) * 1e-3, cpu / wall_s,
              static_cast<double>(ns.size()) / wall_s);
}

void turns(paella::Client& client, const char* name, long count) {
  const Places places(client, client.model(name), 1);
  const std::vector<char> input(places.model.input_bytes, 1);
  std::vector<std::int64_t> ns;
  ns.reserve(static_cast<std::size_t>(count));
  double cpu = cpu_s();
  std::int64_t begin = now_ns();
  for (long i = -count / 10; i < count; ++i) {
    if (i == 0) {
      cpu = cpu_s();
      begin = now_ns();
    }
    const std::int64_t before = now_ns();
    if (!input.empty()) std::memcpy(places.input(0), input.data(), input.size());
    client.submit(places.call(static_cast<std::uint64_t>(i), 0));
    paella::Answer answer;
    client.wait(answer);
    if (i >= 0) ns.push_back(now_ns() - before);
  }
  print_turns(ns, cpu_s() - cpu, static_cast<double>(now_ns() - begin) * 1e-9);
}

// The same between two threads, with queues of one request: what a submit costs without processes.
void inside(std::size_t bytes, long count) {
  alignas(64) std::atomic<std::uint64_t> asked{0};
  alignas(64) std::atomic<std::uint64_t> told{0};
  struct alignas(64) Line {
    std::uint64_t words[8];
  };
  Line request{}, answer{};
  constexpr std::size_t kOutput = 4000;
  std::vector<char> input(bytes, 1), there(bytes), output(kOutput);
  std::thread server([&] {
    for (std::uint64_t n = 1;; ++n) {
      while (asked.load(std::memory_order_acquire) != n) paella::detail::relax();
      if (request.words[0] == 0) return;
      answer = request;
      answer.words[1] = static_cast<std::uint64_t>(now_ns());
      std::memcpy(output.data(), there.data(), std::min(bytes, kOutput));
      told.store(n, std::memory_order_release);
    }
  });
  std::vector<std::int64_t> ns;
  std::uint64_t n = 0;
  const std::int64_t begin = now_ns();
  for (long i = -count / 10; i < count; ++i) {
    const std::int64_t before = now_ns();
    if (bytes > 0) std::memcpy(there.data(), input.data(), bytes);
    request.words[0] = 1;
    asked.store(++n, std::memory_order_release);
    while (told.load(std::memory_order_acquire) != n) paella::detail::relax();
    if (i >= 0) ns.push_back(now_ns() - before);
  }
  request.words[0] = 0;
  asked.store(++n, std::memory_order_release);
  server.join();
  print_turns(ns, 0, static_cast<double>(now_ns() - begin) * 1e-9);
}

void loop(paella::Client& client, const char* name, long ms) {
  const Places places(client, client.model(name), 1);
  const char* start = std::getenv("START_NS");
  const std::int64_t begin = start ? std::atoll(start) : now_ns();
  if (begin > now_ns()) {
    const std::int64_t wait = begin - now_ns();
    const timespec pause{wait / 1'000'000'000, wait % 1'000'000'000};
    nanosleep(&pause, nullptr);
  }
  std::uint64_t count = 0;
  paella::Answer answer;
  for (; now_ns() < begin + ms * 1'000'000; ++count) {
    client.submit(places.call(count, 0));
    client.wait(answer);
  }
  std::printf("{\"count\": %llu}\n", static_cast<unsigned long long>(count));
}

void stream(paella::Client& client, const char* name, long ms) {
  const Places places(client, client.model(name), client.capacity());
  const std::int64_t begin = now_ns(), end = begin + ms * 1'000'000;
  std::uint64_t sent = 0, got = 0;
  paella::Answer answer;
  while (now_ns() < end) {
    for (int i = 0; i < 64 && sent - got < client.capacity(); ++i) {
      client.submit(places.call(sent, sent % client.capacity()));
      ++sent;
    }
    if (sent - got == client.capacity()) client.wait(answer), ++got;
    while (client.poll(answer)) ++got;
  }
  const std::int64_t ns = now_ns() - begin;
  while (got < sent) client.wait(answer), ++got;
  std::printf("{\"rate\": %.1f}\n", static_cast<double>(got) * 1e9 / static_cast<double>(ns));
}

// None lost, none answered twice, every output its own input, or untouched where the server says
// that it computes none.
int check(paella::Client& client, const char* name, long count) {
  const paella::ModelInfo model = client.model(name);
  const std::uint64_t bytes = std::max<std::uint64_t>(model.input_bytes + model.output_bytes, 1);
  const std::size_t most = std::clamp<std::size_t>(kMemory / bytes, 1, client.capacity());
  const Places places(client, model, most);
  std::vector<std::size_t> free;
  for (std::size_t i = 0; i < most; ++i) free.push_back(i);
  const auto total = static_cast<std::uint64_t>(count);
  std::vector<std::uint32_t> place_of(total);
  std::vector<bool> answered(total);
  std::uint64_t sent = 0, got = 0;
  const std::size_t words =
      std::min(places.model.input_bytes, places.model.output_bytes) / sizeof(std::uint64_t);
  while (got < total) {
    while (sent < total && !free.empty()) {
      const std::size_t place = free.back();
      const paella::Call call = places.call(sent, place);
      auto* input = reinterpret_cast<std::uint64_t*>(places.input(place));
      for (std::size_t w = 0; w < words; ++w) input[w] = sent * 0x9e3779b97f4a7c15u + w;
      if (words > 0) std::memset(places.output(place), 0, places.model.output_bytes);
      if (!client.submit(call)) break;
      free.pop_back();
      place_of[sent++] = static_cast<std::uint32_t>(place);
    }
    paella::Answer answer;
    client.wait(answer);
    do {
      if (answer.tag >= sent || answered[answer.tag]) return std::puts("answered twice"), 1;
      const bool untouched = answer.status == kNoOutput;
      if (answer.status != 0 && !untouched) return std::printf("status %u\n", answer.status), 1;
      answered[answer.tag] = true;
      const std::size_t place = place_of[answer.tag];
      const auto* output = reinterpret_cast<const std::uint64_t*>(places.output(place));
      for (std::size_t w = 0; w < words; ++w) {
        const std::uint64_t wanted = untouched ? 0 : answer.tag * 0x9e3779b97f4a7c15u + w;
        if (output[w] != wanted) return std::puts("wrong output"), 1;
      }
      free.push_back(place);
      ++got;
    } while (client.poll(answer));
  }
  std::printf("{\"answered\": %llu}\n", static_cast<unsigned long long>(got));
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 6) return 2;
  const std::string wake = argv[2], what = argv[3];
  const long number = std::atol(argv[5]);
  try {
    if (what == "inside") return inside(static_cast<std::size_t>(std::atol(argv[4])), number), 0;
    paella::ClientOptions options;
    options.waiting = wake == "poll"    ? paella::Waiting::kPoll
                      : wake == "block" ? paella::Waiting::kBlock
                                        : paella::Waiting::kHybrid;
    if (const char* lead = std::getenv("LEAD_US")) options.lead_us = std::atoi(lead);
    paella::Client client(argv[1], options);
    if (what == "turns") return turns(client, argv[4], number), 0;
    if (what == "loop") return loop(client, argv[4], number), 0;
    if (what == "stream") return stream(client, argv[4], number), 0;
    if (what == "check") return check(client, argv[4], number);
  } catch (const std::exception& e) {
    std::fprintf(stderr, "%s\n", e.what());
    return 1;
  }
  return 2;
}
