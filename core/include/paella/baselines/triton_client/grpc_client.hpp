#pragma once

#include <cstdint>
#include <deque>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#include "paella/time.hpp"
#include "paella/baselines/triton_client/http2.hpp"

namespace paella::triton {

struct Answer {
  std::int64_t call = 0;
  std::int32_t status = 2;  // gRPC's: 0 is right, 2 unknown
  std::string reason;       // where it is not 0
  std::string message;      // with its five bytes in front
};

// Unary calls to a gRPC server over several connections, which take turns. Nothing waits but ask().
class GrpcClient {
 public:
  GrpcClient(int port, int connections);
  ~GrpcClient();

  // `call` is the caller's name for it; comes back in the answer.
  void send(std::int64_t call, const std::string& path, Message message);
  // Appends the answers that are there by now.
  void poll(std::vector<Answer>& answers);
  // Sends, and waits for the answer; with no other call in flight. Throws Error if it is not right
  // or does not come.
  std::string ask(const std::string& path, std::string framed_message);
  // Sleeps until something arrives or `ns` have passed.
  void wait(TimeNs ns) const;

 private:
  class Connection;
  std::vector<std::unique_ptr<Connection>> connections_;
  std::size_t next_ = 0;
};

}  // namespace paella::triton
