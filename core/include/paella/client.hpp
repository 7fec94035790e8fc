#pragma once

// Talk to a Paella server of the same user from C++17 on Linux: this header, paella/ipc/protocol.hpp
// and nothing else.
//
//   paella::Client client("demo");
//   const auto model = client.model("resnet18");
//   const auto memory = client.memory(model.input_bytes + model.output_bytes);
//   … write the input to memory.data …
//   client.submit({7, model.id, memory.id, 0, memory.id, model.input_bytes});  // both 64-aligned
//   paella::Answer answer;
//   client.wait(answer);  // answer.tag == 7, and the output is at memory.data + model.input_bytes
//
// One thread at a time may call submit(), one at a time poll() and wait(), and any the rest.

#include <fcntl.h>
#include <poll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>
#include <mutex>
#include <stdexcept>
#include <string>
#include <vector>

#include "paella/ipc/protocol.hpp"

namespace paella {

// In one sentence.
class ClientError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

// The session is over: nothing that was not answered will be.
class ServerGone : public ClientError {
 public:
  using ClientError::ClientError;
};

// How wait() waits. Blocking costs no CPU time, and the time of waking up; polling the reverse.
// Hybrid sleeps until the server expects the answer to come within lead_us, and polls from then on.
enum class Waiting { kPoll, kBlock, kHybrid };

struct ClientOptions {
  Waiting waiting = Waiting::kBlock;
  std::uint32_t lead_us = 100;
};

struct Memory {
  std::uint32_t id;
  char* data;
  std::size_t bytes;
};

// One inference. Input and output are where the model's sizes begin in a memory, 64-aligned; their
// bytes are the server's from submit() to the answer.
struct Call {
  std::uint64_t tag = 0;
  std::uint32_t model = 0;
  std::uint32_t input_memory = ipc::kNoMemory;
  std::uint64_t input_offset = 0;
  std::uint32_t output_memory = ipc::kNoMemory;
  std::uint64_t output_offset = 0;
  std::uint64_t due_ns = 0;  // CLOCK_MONOTONIC; 0: now
};

using Answer = ipc::AnswerSlot;
using ModelInfo = ipc::ModelInfo;

inline const char* what_happened(ipc::Status status) {
  static const char* const texts[ipc::kStatuses] = {
      "done",
      "the server computes no outputs",
      "the server has no such model any more",
      "the request names a memory that this client does not have",
      "the request's input or output is not inside its memory, or not aligned",
      "the request has reserved fields that are not 0",
      "the server is being shut down",
      "the server's device has failed",
  };
  const auto i = static_cast<std::uint32_t>(status);
  return i < ipc::kStatuses ? texts[i] : "the server gave an unknown answer";
}

namespace detail {

inline std::int64_t now_ns() {
  timespec t{};
  clock_gettime(CLOCK_MONOTONIC, &t);
  return std::int64_t{t.tv_sec} * 1'000'000'000 + t.tv_nsec;
}

inline void relax() {
#if defined(__x86_64__) || defined(__i386__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

class Fd {
 public:
  Fd() = default;
  explicit Fd(int fd) : fd_(fd) {}
  Fd(const Fd&) = delete;
  Fd& operator=(const Fd&) = delete;
  ~Fd() { reset(-1); }
  void reset(int fd) {
    if (fd_ >= 0) ::close(fd_);
    fd_ = fd;
  }
  int get() const { return fd_; }

 private:
  int fd_ = -1;
};

class Mapping {
 public:
  Mapping(int fd, std::size_t bytes, int access) : bytes_(bytes) {
    data_ = ::mmap(nullptr, bytes, access, MAP_SHARED, fd, 0);
    if (data_ == MAP_FAILED) {
      throw ClientError(std::string("cannot map the server's memory: ") + std::strerror(errno));
    }
  }
  Mapping(Mapping&& other) noexcept : data_(other.data_), bytes_(other.bytes_) {
    other.data_ = nullptr;
  }
  ~Mapping() {
    if (data_) ::munmap(data_, bytes_);
  }
  char* data() const { return static_cast<char*>(data_); }

 private:
  void* data_;
  std::size_t bytes_;
};

}  // namespace detail

class Client {
 public:
  explicit Client(const std::string& server, ClientOptions options = {})
      : server_(server), options_(options) {
    connect();
    const ipc::Hello hello{static_cast<std::uint32_t>(::getpid()),
                           options.waiting == Waiting::kHybrid ? options.lead_us * 1000 : 0};
    int fds[3] = {-1, -1, -1};
    ipc::Welcome welcome{};
    fixed(call(ipc::Kind::kHello, &hello, sizeof hello, ipc::Kind::kWelcome, fds, 3), welcome);
    const detail::Fd requests(fds[0]), answers(fds[1]);
    wake_.reset(fds[2]);
    capacity_ = welcome.capacity;
    if (capacity_ == 0 || (capacity_ & (capacity_ - 1)) != 0 ||
        welcome.requests_bytes != ipc::requests_bytes(capacity_) ||
        welcome.answers_bytes != ipc::answers_bytes(capacity_)) {
      throw ClientError("server " + server_ + " offers rings of impossible sizes");
    }
    map(requests.get(), welcome.requests_bytes, PROT_READ | PROT_WRITE);
    map(answers.get(), welcome.answers_bytes, PROT_READ);
    requests_ = reinterpret_cast<ipc::RequestsHeader*>(mappings_[0].data());
    request_slots_ = reinterpret_cast<ipc::RequestSlot*>(mappings_[0].data() + ipc::kSlotsOffset);
    answers_ = reinterpret_cast<const ipc::AnswersHeader*>(mappings_[1].data());
    answer_slots_ =
        reinterpret_cast<const ipc::AnswerSlot*>(mappings_[1].data() + ipc::kSlotsOffset);
  }
  Client(const Client&) = delete;
  Client& operator=(const Client&) = delete;

  std::uint32_t capacity() const { return capacity_; }

  // ---- Control: each is a packet to the server and back.

  ModelInfo model(const std::string& name) {
    ModelInfo info = query(0, name);
    if (!info.found) throw ClientError("server " + server_ + " has no model " + name);
    return info;
  }

  std::vector<ModelInfo> models() {
    std::vector<ModelInfo> all;
    for (std::uint32_t i = 0;; ++i) {
      const ModelInfo info = query(i, "");
      if (!info.found) return all;
      all.push_back(info);
    }
  }

  // Shared with the server, and this client's until it is destroyed.
  Memory memory(std::size_t bytes) {
    const ipc::MemoryQuery query{bytes};
    int fd = -1;
    ipc::MemoryInfo info{};
    fixed(call(ipc::Kind::kMemory, &query, sizeof query, ipc::Kind::kMemoryInfo, &fd, 1), info);
    const detail::Fd owned(fd);
    const std::lock_guard<std::mutex> lock(control_);
    map(fd, info.bytes, PROT_READ | PROT_WRITE);
    return {info.id, mappings_.back().data(), info.bytes};
  }

  // Loads a launch plan, given as its folder's absolute path.
  void register_model(const std::string& name, const std::string& folder) {
    registration(ipc::Kind::kRegister, name, folder);
  }
  // Returns when the last job of the model has ended.
  void remove_model(const std::string& name) { registration(ipc::Kind::kRemove, name, ""); }

  // JSON.
  std::string stats() { return call(ipc::Kind::kStats, nullptr, 0, ipc::Kind::kText, nullptr, 0); }

  // ---- Data.

  // False, and nothing done, where as many requests are on their way as the ring holds.
  bool submit(const Call& call) {
    if (submitted_ - taken_seen_ >= capacity_) {
      taken_seen_ = answers_->requests_head.load(std::memory_order_acquire);
      if (submitted_ - taken_seen_ >= capacity_) return false;
    }
    ipc::RequestSlot& slot = request_slots_[submitted_ & (capacity_ - 1)];
    slot.tag = call.tag;
    slot.model = call.model;
    slot.reserved0 = 0;
    slot.input_memory = call.input_memory;
    slot.output_memory = call.output_memory;
    slot.input_offset = call.input_offset;
    slot.output_offset = call.output_offset;
    slot.due_ns = call.due_ns;
    slot.reserved1[0] = slot.reserved1[1] = 0;
    requests_->tail.store(++submitted_, std::memory_order_release);
    std::atomic_thread_fence(std::memory_order_seq_cst);
    if (answers_->asleep.load(std::memory_order_relaxed) != 0) send_byte();
    return true;
  }

  // The next answer, if there is one.
  bool poll(Answer& answer) {
    if (answers_->tail.load(std::memory_order_acquire) == received_) return false;
    answer = answer_slots_[received_ & (capacity_ - 1)];
    requests_->answers_head.store(++received_, std::memory_order_release);
    return true;
  }

  // The next answer, waited for as the options say; false when `timeout_ns` (-1: none) is over
  // first. Throws ServerGone.
  bool wait(Answer& answer, std::int64_t timeout_ns = -1) {
    if (poll(answer)) return true;
    const std::int64_t deadline = timeout_ns < 0 ? INT64_MAX : detail::now_ns() + timeout_ns;
    if (options_.waiting == Waiting::kPoll) return spin(answer, deadline);
    if (sleep(answer, deadline)) return true;
    if (options_.waiting != Waiting::kHybrid) return false;
    while (detail::now_ns() < deadline) {  // woken early, or for an answer that is gone
      const std::int64_t patience = 10'000 * std::int64_t{options_.lead_us};
      if (spin(answer, std::min(deadline, detail::now_ns() + patience))) return true;
      if (sleep(answer, deadline)) return true;
    }
    return false;
  }

  // For a caller of poll() that never waits: throws ServerGone where nothing will come any more.
  // Costs a system call.
  void check_alive() {
    look(0);
    if (gone_) say_why_gone();
  }

  // From any thread: whoever waits gets ServerGone, and the session is over.
  void interrupt() { ::shutdown(wake_.get(), SHUT_RDWR); }

  // Called when a signal interrupts a control call, which goes on unless this throws.
  std::function<void()> on_signal = [] {};

 private:
  void connect() {
    if (server_.empty() || server_.size() >= ipc::kNameBytes) {
      throw ClientError("a server's name has 1 to 63 bytes");
    }
    control_fd_.reset(::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0));
    const std::string name = "paella/" + std::to_string(::geteuid()) + "/" + server_;
    sockaddr_un address{};
    address.sun_family = AF_UNIX;  // a first byte of 0: the abstract namespace
    std::memcpy(address.sun_path + 1, name.data(), name.size());
    const auto length =
        static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + 1 + name.size());
    int result;
    do {
      result = ::connect(control_fd_.get(), reinterpret_cast<sockaddr*>(&address), length);
    } while (result != 0 && errno == EINTR);
    if (result != 0) {
      if (errno == ECONNREFUSED) throw ClientError("there is no server " + server_ + " of this user");
      throw ClientError("cannot connect to server " + server_ + ": " + std::strerror(errno));
    }
    // Any user may take a name in the abstract namespace.
    ucred peer{};
    socklen_t size = sizeof peer;
    if (::getsockopt(control_fd_.get(), SOL_SOCKET, SO_PEERCRED, &peer, &size) != 0 ||
        peer.uid != ::geteuid()) {
      throw ClientError("server " + server_ + " is another user's: it is not to be trusted");
    }
  }

  void map(int fd, std::size_t bytes, int access) { mappings_.emplace_back(fd, bytes, access); }

  ModelInfo query(std::uint32_t index, const std::string& name) {
    ipc::ModelQuery query{};
    query.index = index;
    copy_name(query.name, sizeof query.name, name);
    ModelInfo info{};
    fixed(call(ipc::Kind::kModel, &query, sizeof query, ipc::Kind::kModelInfo, nullptr, 0), info);
    info.name[sizeof info.name - 1] = 0;
    return info;
  }

  void registration(ipc::Kind kind, const std::string& name, const std::string& folder) {
    ipc::Registration body{};
    copy_name(body.name, sizeof body.name, name);
    copy_name(body.folder, sizeof body.folder, folder);
    call(kind, &body, sizeof body, ipc::Kind::kDone, nullptr, 0);
  }

  static void copy_name(char* to, std::size_t room, const std::string& name) {
    if (name.size() >= room || name.find('\0') != std::string::npos) {
      throw ClientError("a name is too long: " + name.substr(0, 80));
    }
    std::memcpy(to, name.data(), name.size());
  }

  template <class Body>
  void fixed(const std::string& bytes, Body& body) const {
    if (bytes.size() != sizeof body) {
      throw ClientError("server " + server_ + " gave an answer of a wrong size");
    }
    std::memcpy(&body, bytes.data(), sizeof body);
  }

  // Sends a packet, and gives the body of its answer with the descriptors that came along.
  std::string call(ipc::Kind kind, const void* body, std::size_t bytes, ipc::Kind expected,
                   int* fds, std::size_t fd_count) {
    const std::lock_guard<std::mutex> lock(control_);
    if (!ended_.empty()) throw ServerGone(ended_);
    ipc::Packet packet{};
    packet.magic = ipc::kMagic;
    packet.version = ipc::kVersion;
    packet.kind = static_cast<std::uint16_t>(kind);
    packet.bytes = static_cast<std::uint32_t>(sizeof packet + bytes);
    packet.number = ++number_;
    std::string out(reinterpret_cast<const char*>(&packet), sizeof packet);
    if (bytes > 0) out.append(static_cast<const char*>(body), bytes);
    while (::send(control_fd_.get(), out.data(), out.size(), MSG_NOSIGNAL) < 0) {
      if (errno != EINTR) break;  // what the server said last is still to be read
      on_signal();
    }
    for (;;) {
      ipc::Packet head{};
      std::string answer = receive(head, fds, fd_count, 0);
      if (head.number == number_ && head.kind == static_cast<std::uint16_t>(expected)) return answer;
      if (head.kind == static_cast<std::uint16_t>(ipc::Kind::kRefused)) {
        if (head.number == number_ || head.number == 0) throw ClientError(answer);
      }
    }
  }

  // One packet; throws when the session is over. Of a call that was given up the answer may still
  // come: the caller looks at the number.
  std::string receive(ipc::Packet& head, int* fds, std::size_t fd_count, int flags) {
    std::vector<char> buffer(ipc::kMaxPacketBytes);
    alignas(cmsghdr) char space[CMSG_SPACE(3 * sizeof(int))];
    iovec part{buffer.data(), buffer.size()};
    msghdr message{};
    ssize_t got;
    for (;;) {
      message = msghdr{};
      message.msg_iov = &part;
      message.msg_iovlen = 1;
      message.msg_control = space;
      message.msg_controllen = sizeof space;
      got = ::recvmsg(control_fd_.get(), &message, MSG_CMSG_CLOEXEC | flags);
      if (got >= 0 || errno != EINTR) break;
      on_signal();
    }
    if (got < 0 && (flags & MSG_DONTWAIT) && errno == EAGAIN) return {};
    if (got <= 0) end("server " + server_ + " is gone");
    std::size_t taken = 0;
    for (cmsghdr* c = CMSG_FIRSTHDR(&message); c; c = CMSG_NXTHDR(&message, c)) {
      if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS) continue;
      const std::size_t count = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
      for (std::size_t i = 0; i < count; ++i) {
        int fd;
        std::memcpy(&fd, CMSG_DATA(c) + i * sizeof fd, sizeof fd);
        if (taken < fd_count) {
          fds[taken++] = fd;
        } else {
          ::close(fd);
        }
      }
    }
    if (static_cast<std::size_t>(got) < sizeof head) end("server " + server_ + " talks nonsense");
    std::memcpy(&head, buffer.data(), sizeof head);
    if (head.magic != ipc::kMagic || head.bytes != static_cast<std::size_t>(got)) {
      end("server " + server_ + " talks nonsense");
    }
    if (head.version != ipc::kVersion) {
      end("server " + server_ + " speaks version " + std::to_string(head.version) +
          " of the protocol, and this client version " + std::to_string(ipc::kVersion));
    }
    std::string body(buffer.data() + sizeof head, static_cast<std::size_t>(got) - sizeof head);
    if (head.kind == static_cast<std::uint16_t>(ipc::Kind::kEnded)) end(body);
    return body;
  }

  [[noreturn]] void end(const std::string& why) {
    ended_ = why;
    throw ServerGone(why);
  }

  // Looks whether the server is still there, for at most so long; false if nothing happened.
  bool look(int timeout_ms) {
    pollfd fds[2] = {{wake_.get(), POLLIN, 0}, {control_fd_.get(), POLLRDHUP, 0}};
    if (::poll(fds, 2, timeout_ms) <= 0) return false;
    if (fds[0].revents & POLLIN) {
      char bytes[64];
      if (::recv(wake_.get(), bytes, sizeof bytes, MSG_DONTWAIT) == 0) gone_ = true;
    }
    if (((fds[0].revents | fds[1].revents) & (POLLHUP | POLLERR | POLLRDHUP | POLLNVAL)) != 0) {
      gone_ = true;
    }
    return true;
  }

  // After the last answer has been read.
  [[noreturn]] void say_why_gone() {
    const std::lock_guard<std::mutex> lock(control_);
    if (!ended_.empty()) throw ServerGone(ended_);
    for (;;) {
      ipc::Packet head{};
      receive(head, nullptr, 0, MSG_DONTWAIT);
      if (head.magic == 0) end("the session with server " + server_ + " is over");
    }
  }

  bool spin(Answer& answer, std::int64_t deadline) {
    constexpr std::int64_t kLookNs = 100'000;
    std::int64_t next_look = detail::now_ns() + kLookNs;
    for (;;) {
      for (int i = 0; i < 64; ++i) {
        if (poll(answer)) return true;
        detail::relax();
      }
      const std::int64_t now = detail::now_ns();
      if (now >= deadline) return false;
      if (now < next_look) continue;
      look(0);
      next_look = now + kLookNs;
      if (gone_ && !poll(answer)) say_why_gone();
      if (gone_) return true;
    }
  }

  // Until an answer is there, or a hybrid client is woken ahead of it: false.
  bool sleep(Answer& answer, std::int64_t deadline) {
    bool woken = false;
    for (;;) {
      requests_->asleep.store(1, std::memory_order_relaxed);
      std::atomic_thread_fence(std::memory_order_seq_cst);
      bool got = poll(answer);
      if (!got && gone_) say_why_gone();
      const bool early = woken && options_.waiting == Waiting::kHybrid;
      const std::int64_t left = deadline == INT64_MAX ? -1 : deadline - detail::now_ns();
      if (got || early || (deadline != INT64_MAX && left <= 0)) {
        requests_->asleep.store(0, std::memory_order_relaxed);
        return got;
      }
      const std::int64_t left_ms = (left + 999'999) / 1'000'000;
      woken = look(deadline == INT64_MAX ? -1 : static_cast<int>(std::min<std::int64_t>(left_ms, 1'000'000)));
    }
  }

  void send_byte() {
    const char byte = 0;
    // Where the socket is full the server has enough to wake it up.
    (void)!::send(wake_.get(), &byte, 1, MSG_DONTWAIT | MSG_NOSIGNAL);
  }

  const std::string server_;
  const ClientOptions options_;
  detail::Fd control_fd_, wake_;
  std::mutex control_;  // of the control socket and what follows
  std::uint32_t number_ = 0;
  std::string ended_;
  std::vector<detail::Mapping> mappings_;

  std::uint64_t capacity_ = 0;
  ipc::RequestsHeader* requests_ = nullptr;
  ipc::RequestSlot* request_slots_ = nullptr;
  const ipc::AnswersHeader* answers_ = nullptr;
  const ipc::AnswerSlot* answer_slots_ = nullptr;
  alignas(64) std::uint64_t submitted_ = 0;  // of the submitting thread
  std::uint64_t taken_seen_ = 0;
  alignas(64) std::uint64_t received_ = 0;  // of the receiving thread
  bool gone_ = false;
};

}  // namespace paella
