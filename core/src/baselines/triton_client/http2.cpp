#include "paella/baselines/triton_client/http2.hpp"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "paella/error.hpp"

namespace paella::triton {
namespace {

constexpr char kPreface[] = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
constexpr std::size_t kFrameHead = 9;
enum Type : std::uint8_t {
  kData = 0, kHeaders = 1, kReset = 3, kSettings = 4, kPing = 6, kGoAway = 7, kWindow = 8,
  kContinuation = 9,
};
constexpr std::uint8_t kEndStream = 1, kAck = 1, kEndHeaders = 4, kPadded = 8, kPriority = 32;
enum Setting : std::uint16_t { kTableSize = 1, kPush = 2, kInitialWindow = 4, kMaxFrame = 5 };
constexpr std::uint32_t kLargestWindow = 0x7fffffff;
constexpr std::size_t kTellEvery = 1 << 24;  // received bytes
constexpr std::size_t kReadAtOnce = 1 << 18;
constexpr std::size_t kPiecesAtOnce = 64;
constexpr std::size_t kEnoughQueued = 1 << 20;  // bytes given to the socket at a time

std::uint32_t number(std::string_view bytes) {
  std::uint32_t value = 0;
  for (const char c : bytes) value = value << 8 | static_cast<std::uint8_t>(c);
  return value;
}

std::string big_endian(std::uint32_t value, int bytes) {
  std::string text;
  for (int shift = 8 * (bytes - 1); shift >= 0; shift -= 8) {
    text += static_cast<char>(value >> shift & 255);
  }
  return text;
}

std::string frame_head(std::size_t length, std::uint8_t type, std::uint8_t flags,
                       HttpStream stream) {
  std::string head = big_endian(static_cast<std::uint32_t>(length), 3);
  head += static_cast<char>(type);
  head += static_cast<char>(flags);
  return head + big_endian(stream, 4);
}

std::string setting(std::uint16_t name, std::uint32_t value) {
  return big_endian(name, 2) + big_endian(value, 4);
}

[[noreturn]] void fail(const std::string& doing) {
  throw Error(doing + ": " + std::strerror(errno));
}

int connect_to(int port) {
  const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (fd < 0) fail("cannot make a socket");
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(static_cast<std::uint16_t>(port));
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  if (connect(fd, reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) {
    const int why = errno;
    close(fd);
    errno = why;
    fail("no server answers at port " + std::to_string(port));
  }
  const int on = 1;
  setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  fcntl(fd, F_SETFL, O_NONBLOCK);
  return fd;
}

}  // namespace

Http2Connection::Http2Connection(int port, Listener& listener)
    : listener_(listener), socket_(connect_to(port)), buffer_(kReadAtOnce) {
  put(kPreface);
  put_frame(kSettings, 0, 0,
            setting(kTableSize, 0) + setting(kPush, 0) + setting(kInitialWindow, kLargestWindow));
  put_frame(kWindow, 0, 0, big_endian(kLargestWindow - 65535, 4));
  poll();
}

Http2Connection::~Http2Connection() { close(socket_); }

HttpStream Http2Connection::open(const std::string& headers, Message message) {
  const HttpStream stream = next_stream_;
  next_stream_ += 2;
  put_frame(kHeaders, kEndHeaders, stream, headers);
  windows_[stream] = stream_window_;
  waiting_.push_back({stream, std::move(message)});
  send_messages();
  write();
  return stream;
}

void Http2Connection::poll() {
  write();
  read();
  send_messages();
  write();
}

// ---- sending

void Http2Connection::put(std::string bytes) {
  if (!out_.empty() && !out_.back().other) {
    out_.back().own += bytes;
    out_.back().bytes += bytes.size();
    return;
  }
  Piece piece;
  piece.bytes = bytes.size();
  piece.own = std::move(bytes);
  out_.push_back(std::move(piece));
}

void Http2Connection::put_frame(std::uint8_t type, std::uint8_t flags, HttpStream stream,
                                std::string_view body) {
  put(frame_head(body.size(), type, flags, stream) += body);
}

// A stream whose window is used up lets others go first.
void Http2Connection::send_messages() {
  for (auto it = waiting_.begin(); it != waiting_.end() && window_ > 0;) {
    it = send_some(*it) ? waiting_.erase(it) : std::next(it);
  }
}

// As frames; true when all of the message has gone to the socket.
bool Http2Connection::send_some(Sending& sending) {
  std::int64_t& stream_window = windows_[sending.stream];
  std::size_t queued = 0;
  while (sending.left() > 0 && window_ > 0 && stream_window > 0 && queued < kEnoughQueued) {
    const Message& m = sending.message;
    const auto allowed = static_cast<std::size_t>(std::min(window_, stream_window));
    const std::size_t bytes = std::min({sending.left(), largest_frame_, allowed});
    const bool last = bytes == sending.left();
    put(frame_head(bytes, kData, last ? kEndStream : 0, sending.stream));
    const std::size_t own =
        sending.sent < m.head.size() ? std::min(bytes, m.head.size() - sending.sent) : 0;
    if (own > 0) put(m.head.substr(sending.sent, own));
    if (bytes > own) {
      const std::size_t from = sending.sent + own - m.head.size();
      out_.push_back({{}, m.tail + from, bytes - own});
    }
    sending.sent += bytes;
    queued += bytes;
    window_ -= static_cast<std::int64_t>(bytes);
    stream_window -= static_cast<std::int64_t>(bytes);
  }
  return sending.left() == 0;
}

void Http2Connection::write() {
  while (!out_.empty()) {
    iovec pieces[kPiecesAtOnce];
    std::size_t count = 0;
    for (auto it = out_.begin(); it != out_.end() && count < kPiecesAtOnce; ++it) {
      const void* at = it->other ? static_cast<const void*>(it->other) : it->own.data();
      pieces[count++] = {const_cast<char*>(static_cast<const char*>(at)) + it->sent,
                         it->bytes - it->sent};
    }
    msghdr message{};
    message.msg_iov = pieces;
    message.msg_iovlen = count;
    const ssize_t sent = sendmsg(socket_, &message, MSG_NOSIGNAL);
    if (sent < 0) {
      if (errno == EAGAIN || errno == EINTR) return;
      fail("the connection to the server has ended");
    }
    for (auto left = static_cast<std::size_t>(sent); left > 0;) {
      Piece& first = out_.front();
      const std::size_t here = std::min(left, first.bytes - first.sent);
      first.sent += here;
      left -= here;
      if (first.sent == first.bytes) out_.pop_front();
    }
  }
}

// ---- receiving

void Http2Connection::read() {
  for (;;) {
    const ssize_t got = recv(socket_, buffer_.data(), buffer_.size(), 0);
    if (got == 0) throw Error("the server has closed the connection");
    if (got < 0) {
      if (errno == EAGAIN || errno == EINTR) break;
      fail("the connection to the server has ended");
    }
    in_.append(buffer_.data(), static_cast<std::size_t>(got));
    if (static_cast<std::size_t>(got) < buffer_.size()) break;
  }
  std::size_t at = 0;
  while (in_.size() - at >= kFrameHead) {
    const std::string_view head(in_.data() + at, kFrameHead);
    const std::size_t length = number(head.substr(0, 3));
    if (in_.size() - at - kFrameHead < length) break;
    frame(static_cast<std::uint8_t>(head[3]), static_cast<std::uint8_t>(head[4]),
          number(head.substr(5)) & 0x7fffffff, {in_.data() + at + kFrameHead, length});
    at += kFrameHead + length;
  }
  in_.erase(0, at);
}

void Http2Connection::frame(std::uint8_t type, std::uint8_t flags, HttpStream stream,
                            std::string_view body) {
  switch (type) {
    case kData: return data(flags, stream, body);
    case kHeaders:
    case kContinuation: return headers(type, flags, stream, body);
    case kSettings:
      if (flags & kAck) return;
      settings(body);
      return put_frame(kSettings, kAck, 0, {});
    case kPing:
      if (!(flags & kAck)) put_frame(kPing, kAck, 0, body);
      return;
    case kWindow: {
      const std::uint32_t more = number(body.substr(0, 4)) & kLargestWindow;
      if (stream == 0) {
        window_ += more;
      } else if (const auto found = windows_.find(stream); found != windows_.end()) {
        found->second += more;
      }
      return;
    }
    case kReset:
      throw Error("the server has refused a request: HTTP/2 error " +
                  std::to_string(number(body.substr(0, 4))));
    case kGoAway: throw Error("the server ends the connection");
    default: return;
  }
}

void Http2Connection::settings(std::string_view body) {
  for (; body.size() >= 6; body.remove_prefix(6)) {
    const std::uint32_t value = number(body.substr(2, 4));
    switch (number(body.substr(0, 2))) {
      case kInitialWindow:
        for (auto& [stream, window] : windows_) window += std::int64_t{value} - stream_window_;
        stream_window_ = value;
        break;
      case kMaxFrame: largest_frame_ = value; break;
      default: break;
    }
  }
}

void Http2Connection::data(std::uint8_t flags, HttpStream stream, std::string_view body) {
  unacknowledged_ += body.size();
  if (unacknowledged_ >= kTellEvery) {
    put_frame(kWindow, 0, 0, big_endian(static_cast<std::uint32_t>(unacknowledged_), 4));
    unacknowledged_ = 0;
  }
  if (flags & kPadded && !body.empty()) {
    const auto padding = static_cast<std::uint8_t>(body.front());
    body = body.substr(1, body.size() - 1 - std::min<std::size_t>(padding, body.size() - 1));
  }
  listener_.on_data(stream, body);
  if (flags & kEndStream) end(stream);
}

void Http2Connection::headers(std::uint8_t type, std::uint8_t flags, HttpStream stream,
                              std::string_view body) {
  if (type == kHeaders) {
    std::size_t padding = 0;
    if (flags & kPadded && !body.empty()) {
      padding = static_cast<std::uint8_t>(body.front());
      body.remove_prefix(1);
    }
    if (flags & kPriority) body.remove_prefix(std::min<std::size_t>(5, body.size()));
    body.remove_suffix(std::min(padding, body.size()));
    block_.clear();
    block_ends_stream_ = (flags & kEndStream) != 0;
  }
  block_ += body;
  if (!(flags & kEndHeaders)) return;
  listener_.on_headers(stream, read_headers(block_));
  if (block_ends_stream_) end(stream);
}

void Http2Connection::end(HttpStream stream) {
  windows_.erase(stream);
  std::erase_if(waiting_, [&](const Sending& s) { return s.stream == stream; });
  listener_.on_end(stream);
}

}  // namespace paella::triton
