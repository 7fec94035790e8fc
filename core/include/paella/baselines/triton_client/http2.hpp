#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "paella/baselines/triton_client/header_block.hpp"

// HTTP/2 (RFC 9113) in the clear, from a client to a gRPC server on this machine. Nothing here
// waits: a load generator must not.
namespace paella::triton {

using HttpStream = std::uint32_t;

// What is sent in a stream: some bytes of its own, and behind them bytes that stay where they are
// until the answer has come.
struct Message {
  std::string head;
  const unsigned char* tail = nullptr;
  std::size_t tail_bytes = 0;
};

class Http2Connection {
 public:
  // What arrives, as poll() finds it.
  class Listener {
   public:
    virtual ~Listener() = default;
    virtual void on_data(HttpStream stream, std::string_view bytes) = 0;
    virtual void on_headers(HttpStream stream, const std::vector<Header>& headers) = 0;
    virtual void on_end(HttpStream stream) = 0;
  };

  // To 127.0.0.1. Throws Error if nobody is there.
  Http2Connection(int port, Listener& listener);
  ~Http2Connection();
  Http2Connection(const Http2Connection&) = delete;
  Http2Connection& operator=(const Http2Connection&) = delete;

  // `headers` of request_headers(); the message is all that the stream sends.
  HttpStream open(const std::string& headers, Message message);
  // Sends and receives what can be by now. Throws Error if the connection has ended.
  void poll();

  int descriptor() const { return socket_; }
  bool wants_to_send() const { return !out_.empty(); }

 private:
  struct Piece {  // of what goes to the socket
    std::string own;
    const unsigned char* other = nullptr;
    std::size_t bytes = 0;
    std::size_t sent = 0;
  };
  struct Sending {  // a message that flow control holds back
    HttpStream stream;
    Message message;
    std::size_t sent = 0;
    std::size_t left() const { return message.head.size() + message.tail_bytes - sent; }
  };

  void put(std::string bytes);
  void put_frame(std::uint8_t type, std::uint8_t flags, HttpStream stream, std::string_view body);
  void send_messages();
  bool send_some(Sending& sending);
  void write();
  void read();
  void frame(std::uint8_t type, std::uint8_t flags, HttpStream stream, std::string_view body);
  void settings(std::string_view body);
  void data(std::uint8_t flags, HttpStream stream, std::string_view body);
  void headers(std::uint8_t type, std::uint8_t flags, HttpStream stream, std::string_view body);
  void end(HttpStream stream);

  Listener& listener_;
  int socket_ = -1;
  HttpStream next_stream_ = 1;
  std::deque<Piece> out_;
  std::deque<Sending> waiting_;  // in the order of their streams
  std::vector<char> buffer_;  // for what the socket has
  std::string in_;
  std::string block_;  // of headers, until its last frame has come
  bool block_ends_stream_ = false;
  std::int64_t window_ = 65535;          // that the server leaves us, of the connection
  std::int64_t stream_window_ = 65535;   // and of a new stream
  std::unordered_map<HttpStream, std::int64_t> windows_;  // of streams that have sent something
  std::size_t largest_frame_ = 16384;
  std::size_t unacknowledged_ = 0;  // bytes received since the server was last told
};

}  // namespace paella::triton
