#include "paella/baselines/triton_client/grpc_client.hpp"

#include <poll.h>

#include <algorithm>
#include <cstdlib>

#include "paella/clock.hpp"
#include "paella/error.hpp"

namespace paella::triton {
namespace {

constexpr TimeNs kAskNs = 30'000'000'000;
constexpr TimeNs kLookNs = 1'000'000;

int hex(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  c = static_cast<char>(c | 32);
  return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

// A reason comes with its unusual characters as %NN.
std::string decoded(const std::string& text) {
  std::string out;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '%' && i + 2 < text.size() && hex(text[i + 1]) >= 0 && hex(text[i + 2]) >= 0) {
      out += static_cast<char>(hex(text[i + 1]) * 16 + hex(text[i + 2]));
      i += 2;
    } else {
      out += text[i];
    }
  }
  return out;
}

}  // namespace

class GrpcClient::Connection final : Http2Connection::Listener {
 public:
  explicit Connection(int port)
      : authority_("127.0.0.1:" + std::to_string(port)), http_(port, *this) {}

  void send(std::int64_t call, const std::string& path, Message message) {
    std::string& headers = headers_[path];
    if (headers.empty()) headers = request_headers(authority_, path);
    calls_[http_.open(headers, std::move(message))].call = call;
  }
  void poll(std::vector<Answer>& answers) {
    http_.poll();
    std::move(done_.begin(), done_.end(), std::back_inserter(answers));
    done_.clear();
  }
  pollfd descriptor() const {
    return {http_.descriptor(), static_cast<short>(POLLIN | (http_.wants_to_send() ? POLLOUT : 0)),
            0};
  }

 private:
  void on_data(HttpStream stream, std::string_view bytes) override {
    if (const auto call = calls_.find(stream); call != calls_.end()) call->second.message += bytes;
  }
  void on_headers(HttpStream stream, const std::vector<Header>& headers) override {
    const auto call = calls_.find(stream);
    if (call == calls_.end()) return;
    for (const Header& header : headers) {
      if (header.name == "grpc-status") call->second.status = std::atoi(header.value.c_str());
      if (header.name == "grpc-message") call->second.reason = decoded(header.value);
    }
  }
  void on_end(HttpStream stream) override {
    const auto call = calls_.find(stream);
    if (call == calls_.end()) return;
    done_.push_back(std::move(call->second));
    calls_.erase(call);
  }

  std::string authority_;
  std::unordered_map<std::string, std::string> headers_;  // by path
  std::unordered_map<HttpStream, Answer> calls_;
  std::vector<Answer> done_;
  Http2Connection http_;
};

GrpcClient::GrpcClient(int port, int connections) {
  for (int i = 0; i < connections; ++i) connections_.push_back(std::make_unique<Connection>(port));
}

GrpcClient::~GrpcClient() = default;

void GrpcClient::send(std::int64_t call, const std::string& path, Message message) {
  connections_[next_]->send(call, path, std::move(message));
  next_ = (next_ + 1) % connections_.size();
}

void GrpcClient::poll(std::vector<Answer>& answers) {
  for (const auto& connection : connections_) connection->poll(answers);
}

void GrpcClient::wait(TimeNs ns) const {
  std::vector<pollfd> descriptors;
  for (const auto& connection : connections_) descriptors.push_back(connection->descriptor());
  const timespec limit{ns / 1'000'000'000, ns % 1'000'000'000};
  ppoll(descriptors.data(), descriptors.size(), &limit, nullptr);
}

std::string GrpcClient::ask(const std::string& path, std::string framed_message) {
  send(-1, path, {std::move(framed_message)});
  const TimeNs end = monotonic_ns() + kAskNs;
  std::vector<Answer> answers;
  while (answers.empty()) {
    if (monotonic_ns() > end) throw Error("the server does not answer a call of " + path);
    wait(kLookNs);
    poll(answers);
  }
  const Answer& answer = answers.front();
  if (answer.status != 0) throw Error("the server refuses: " + answer.reason);
  return answer.message;
}

}  // namespace paella::triton
