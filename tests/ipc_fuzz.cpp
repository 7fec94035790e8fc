// A hostile client with write access to its own segments, against the server's real code.
//
//   ipc_fuzz COUNT SEED CORPUS [KEEP]
//
// An input is a list of operations on what the client can write, and of the server's turns. Inputs
// are the corpus's files and mutations of them and of what reached new code (the server is compiled
// with -fsanitize-coverage=trace-pc); with KEEP those are written to that folder. After every input:
// nothing handed to the device lies outside the client's own memories, everything owed has been
// answered once, and another client is served as ever.

#include <sys/mman.h>
#include <sys/socket.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <random>
#include <string>
#include <vector>

#include "paella/error.hpp"
#include "paella/ipc/sessions.hpp"

namespace {

using namespace paella;
using Input = std::vector<std::uint8_t>;

unsigned char seen[65536];
bool new_code = false;

#define REQUIRE(what)                                              \
  do {                                                             \
    if (!(what)) {                                                 \
      std::fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #what); \
      std::abort();                                                \
    }                                                              \
  } while (false)

constexpr std::uint32_t kCapacity = 8;
constexpr std::uint64_t kInput = 100, kOutput = 40, kMemory = 4096;

// The client's side: its segments, mapped as a client maps them.
struct Attacker {
  explicit Attacker(ipc::Sessions& sessions) {
    ipc::Attached attached = sessions.attach(1000);
    session = attached.session;
    requests = static_cast<char*>(mmap(nullptr, attached.welcome.requests_bytes,
                                       PROT_READ | PROT_WRITE, MAP_SHARED,
                                       attached.requests.get(), 0));
    requests_bytes = attached.welcome.requests_bytes;
    answers_bytes = attached.welcome.answers_bytes;
    answers = static_cast<char*>(
        mmap(nullptr, answers_bytes, PROT_READ, MAP_SHARED, attached.answers.get(), 0));
    REQUIRE(requests != MAP_FAILED && answers != MAP_FAILED);
    REQUIRE(mmap(nullptr, answers_bytes, PROT_READ | PROT_WRITE, MAP_SHARED,
                 attached.answers.get(), 0) == MAP_FAILED);
    wake = std::move(attached.wake);
    for (int i = 0; i < 2; ++i) sessions.add_memory(session, kMemory);
  }
  Attacker(Attacker&&) = delete;
  ~Attacker() {
    munmap(requests, requests_bytes);
    munmap(answers, answers_bytes);
  }
  ipc::RequestsHeader& head() { return *reinterpret_cast<ipc::RequestsHeader*>(requests); }
  const ipc::AnswersHeader& told() const {
    return *reinterpret_cast<const ipc::AnswersHeader*>(answers);
  }
  std::uint64_t* slot(std::uint64_t position) {
    return reinterpret_cast<std::uint64_t*>(requests + ipc::kSlotsOffset +
                                            position % kCapacity * sizeof(ipc::RequestSlot));
  }

  std::int32_t session;
  char *requests, *answers;
  std::size_t requests_bytes, answers_bytes;
  ipc::Descriptor wake;
};

class Target {
 public:
  Target() : sessions_(limits()) {
    sessions_.set_memory_observer([this](void* data, std::size_t bytes, bool added) {
      const auto at = static_cast<char*>(data);
      if (added) {
        REQUIRE(bytes == kMemory);
        memories_.push_back(at);
      } else {
        std::erase(memories_, at);
      }
    });
    good_ = sessions_.wire_id(sessions_.add_model({kInput, kOutput, 2, true, false}));
    empty_ = sessions_.wire_id(sessions_.add_model({0, 0, 1, true, true}));
    const std::int32_t removed = sessions_.add_model({kInput, 0, 1, true, false});
    gone_ = sessions_.wire_id(removed);
    sessions_.remove_model(removed);
    victim_ = std::make_unique<Attacker>(sessions_);
    serve();
    sessions_.notices();
    victims_ = memories_;
    attack();
  }

  void run(const Input& input) {
    const std::uint64_t began = attacker_->told().tail.load();
    for (std::size_t i = 0; i + 3 < input.size(); i += 4) step(&input[i]);
    if (leave_) return leave();
    serve();
    const std::uint64_t answered = attacker_->told().tail.load();
    const std::uint64_t taken = attacker_->told().requests_head.load();
    REQUIRE(answered == taken && answered >= began && held_.empty());
    check_victim();
    bool broken = false;
    for (const ipc::Notice& notice : sessions_.notices()) {
      REQUIRE(notice.kind == ipc::Notice::Kind::kBroken && notice.id == attacker_->session);
      broken = true;
    }
    // What it wrote was possible, or noticed; answers that it has not read were not overwritten.
    REQUIRE(broken || attacker_->head().tail.load() - taken <= kCapacity);
    REQUIRE(taken - read_ <= kCapacity);
    if (broken || cut_) leave();
  }
  std::int64_t sessions_ended = 0, jobs = 0;

 private:
  static ipc::Limits limits() {
    ipc::Limits limits;
    limits.capacity = kCapacity;
    limits.sessions = 4;
    return limits;
  }

  // Its memory stays until its jobs have ended, and comes back then.
  void leave() {
    sessions_.detach(attacker_->session);
    request::Request request;
    const std::size_t mapped = memories_.size();
    while (sessions_.take(++now_, request)) REQUIRE(false);
    const auto is_gone = [](const ipc::Notice& n) { return n.kind == ipc::Notice::Kind::kGone; };
    if (!held_.empty()) {
      for (const ipc::Notice& notice : sessions_.notices()) REQUIRE(!is_gone(notice));
      REQUIRE(memories_.size() == mapped);
      finish();
    }
    const auto notices = sessions_.notices();
    REQUIRE(std::count_if(notices.begin(), notices.end(), is_gone) == 1);
    REQUIRE(memories_ == victims_);
    ++sessions_ended;
    attack();
    check_victim();
  }

  void attack() {
    attacker_.reset();
    attacker_ = std::make_unique<Attacker>(sessions_);
    position_ = read_ = 0;
    cut_ = leave_ = false;
    serve();
  }

  // Numbers that mean something to the server, and their neighbours.
  std::uint64_t value(std::uint8_t which, std::uint8_t more) const {
    const std::uint64_t values[] = {0, 1, 2, good_, empty_, gone_, good_ + (1u << 12), kCapacity,
                                    kMemory - 64, kMemory - 128, kMemory, kMemory - 100, 64,
                                    std::uint64_t{1} << 32, ~std::uint64_t{0} - 63,
                                    std::uint64_t{1} << 63};
    const std::uint64_t base = values[which % 16];
    return which & 0x80 ? base + static_cast<std::int8_t>(more) : base;
  }

  void step(const std::uint8_t* op) {
    ipc::RequestsHeader& head = attacker_->head();
    const std::uint64_t some = value(op[2], op[3]);
    switch (op[0] % 12) {
      case 0:  // a good request
      case 1:
        write(0, op[3]);
        word32(8, op[1] & 1 ? empty_ : good_);
        word32(12, 0);
        word32(16, op[1] >> 1 & 1);
        word32(20, op[1] >> 2 & 1);
        write(3, std::uint64_t{64} * (op[2] % 32));
        write(4, std::uint64_t{64} * (op[3] % 32));
        write(5, op[1] & 8 ? some : 0);
        write(6, 0);
        write(7, 0);
        head.tail.store(++position_);
        break;
      case 2: write(op[1] % 8, some); break;
      case 3: word32(op[1] % 16 * 4, static_cast<std::uint32_t>(some)); break;
      case 4: head.tail.store(++position_); break;
      case 5: head.tail.store(op[1] & 1 ? position_ + some : some); break;
      case 6: head.answers_head.store(attacker_->told().tail.load()); break;
      case 7: head.answers_head.store(op[1] & 1 ? attacker_->told().tail.load() + some : some); break;
      case 8: head.asleep.store(static_cast<std::uint32_t>(some)); break;
      case 9: take(op[1] % 8); break;
      case 10: op[1] & 1 ? finish() : sessions_.idle_wait(0); break;
      case 11:
        if (op[1] == 255 && op[2] > 250) {  // seldom: it takes long to start again
          shutdown(attacker_->wake.get(), SHUT_RDWR);
          cut_ = true;
        } else if (op[1] >= 240) {
          leave_ = true;
        } else {
          char bytes[256] = {};
          (void)!send(attacker_->wake.get(), bytes, op[2], MSG_DONTWAIT | MSG_NOSIGNAL);
        }
        break;
    }
  }
  // What it claims to have read becomes possible with the answers.
  void look_at_head() {
    if (!attacker_) return;
    const std::uint64_t head = attacker_->head().answers_head.load();
    if (head - read_ <= attacker_->told().tail.load() - read_) read_ = head;
  }
  bool take_one(request::Request& request) {
    look_at_head();
    const bool taken = sessions_.take(++now_, request);
    look_at_head();
    return taken;
  }
  void write(std::size_t word, std::uint64_t value) { attacker_->slot(position_)[word] = value; }
  void word32(std::size_t byte, std::uint32_t value) {
    std::memcpy(reinterpret_cast<char*>(attacker_->slot(position_)) + byte, &value, sizeof value);
  }

  void take(int most) {
    request::Request request;
    for (int i = 0; i < most && take_one(request); ++i) {
      inside(static_cast<const char*>(request.input), kInput);
      inside(static_cast<const char*>(request.output), kOutput);
      // Its age counts from when it was taken from the ring, some turns ago.
      REQUIRE(request.due_ns > now_ - ipc::kMaxAgeNs - 1'000'000 && request.due_ns <= now_);
      sessions_.submitted(request, now_);
      sessions_.almost_finished(request, now_ + 2000);
      held_.push_back(request);
      ++jobs;
    }
  }
  // In a memory of the attacker's, and of no one else.
  void inside(const char* at, std::uint64_t bytes) const {
    REQUIRE(reinterpret_cast<std::uintptr_t>(at) % 64 == 0);
    REQUIRE(std::any_of(memories_.begin(), memories_.end(), [&](const char* memory) {
      const bool other = std::find(victims_.begin(), victims_.end(), memory) != victims_.end();
      return (expecting_victim_ == other) && at >= memory && at + bytes <= memory + kMemory;
    }));
  }
  void finish() {
    for (const request::Request& request : held_) sessions_.finished(request, now_, now_);
    held_.clear();
  }
  // Until nothing changes.
  void serve() {
    for (int i = 0; i < 64; ++i) {
      take(8);
      const bool some = !held_.empty();
      finish();
      if (!some && sessions_.next_due_ns() != 0) return;
    }
  }

  void check_victim() {
    expecting_victim_ = true;
    ipc::RequestsHeader& head = victim_->head();
    const std::uint64_t before = victim_->told().tail.load();
    auto& slot = *reinterpret_cast<ipc::RequestSlot*>(victim_->slot(before));
    slot = {};
    slot.tag = before;
    slot.model = good_;
    slot.output_offset = 128;
    head.tail.store(before + 1);
    serve();
    const auto* answers =
        reinterpret_cast<const ipc::AnswerSlot*>(victim_->answers + ipc::kSlotsOffset);
    REQUIRE(victim_->told().tail.load() == before + 1);
    REQUIRE(answers[before % kCapacity].tag == before && answers[before % kCapacity].status == 0);
    head.answers_head.store(before + 1);
    expecting_victim_ = false;
  }

  std::vector<char*> memories_, victims_;
  ipc::Sessions sessions_;
  std::uint32_t good_ = 0, empty_ = 0, gone_ = 0;
  std::unique_ptr<Attacker> attacker_, victim_;
  std::uint64_t position_ = 0;
  std::uint64_t read_ = 0;  // answers, at most, as far as can be
  bool cut_ = false, leave_ = false;
  bool expecting_victim_ = false;
  TimeNs now_ = 10'000'000'000;
  std::vector<request::Request> held_;
};

Input mutated(const std::vector<Input>& corpus, std::mt19937_64& random) {
  const auto any = [&](std::size_t below) { return static_cast<std::size_t>(random() % below); };
  Input input = corpus[any(corpus.size())];
  if (any(4) == 0) {  // the end of another
    const Input& other = corpus[any(corpus.size())];
    input.resize(any(input.size() / 4 + 1) * 4);
    input.insert(input.end(), other.begin() + static_cast<std::ptrdiff_t>(any(other.size() / 4 + 1) * 4),
                 other.end());
  }
  for (std::size_t n = 1 + any(4); n > 0; --n) {
    const std::size_t at = any(input.size() / 4 + 1) * 4;
    switch (any(4)) {
      case 0: {
        std::uint8_t op[4];
        for (auto& byte : op) byte = static_cast<std::uint8_t>(random());
        input.insert(input.begin() + static_cast<std::ptrdiff_t>(at), op, op + 4);
        break;
      }
      case 1:
        if (at + 4 <= input.size()) {
          input.erase(input.begin() + static_cast<std::ptrdiff_t>(at),
                      input.begin() + static_cast<std::ptrdiff_t>(at) + 4);
        }
        break;
      default:
        if (!input.empty()) input[any(input.size())] = static_cast<std::uint8_t>(random());
    }
  }
  if (input.size() > 256) input.resize(256);
  return input;
}

}  // namespace

extern "C" void __sanitizer_cov_trace_pc() {
  const auto pc = reinterpret_cast<std::uintptr_t>(__builtin_return_address(0));
  unsigned char& mark = seen[(pc ^ pc >> 16) & 0xffff];
  new_code |= mark == 0;
  mark = 1;
}

int main(int argc, char** argv) {
  if (argc < 4) return 2;
  const long count = std::atol(argv[1]);
  std::mt19937_64 random(std::strtoull(argv[2], nullptr, 10));
  std::vector<Input> corpus;
  std::vector<std::filesystem::path> files;
  for (const auto& entry : std::filesystem::directory_iterator(argv[3])) files.push_back(entry);
  std::sort(files.begin(), files.end());
  Target target;
  for (const auto& path : files) {
    std::ifstream file(path, std::ios::binary);
    corpus.emplace_back(std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>());
    target.run(corpus.back());
  }
  if (corpus.empty()) corpus.emplace_back();
  const std::size_t given = corpus.size();
  for (long i = 0; i < count; ++i) {
    const Input input = mutated(corpus, random);
    new_code = false;
    target.run(input);
    if (!new_code) continue;
    corpus.push_back(input);
    if (argc > 4) {
      std::ofstream file(std::filesystem::path(argv[4]) / (std::to_string(corpus.size()) + ".bin"),
                         std::ios::binary);
      file.write(reinterpret_cast<const char*>(input.data()), static_cast<std::streamsize>(input.size()));
    }
  }
  std::printf("%ld inputs, %zu of %zu of the corpus new, %lld sessions ended, %lld jobs\n", count,
              corpus.size() - given, corpus.size(), static_cast<long long>(target.sessions_ended),
              static_cast<long long>(target.jobs));
}
