#include "paella/baselines/triton_client/header_block.hpp"

#include <cstdint>

#include "paella/error.hpp"

namespace paella::triton {
namespace {

// Of the static table (RFC 7541, appendix A).
constexpr int kAuthority = 1, kMethodPost = 3, kPath = 4, kSchemeHttp = 6, kContentType = 31;
constexpr int kFirstStatus = 8, kLastStatus = 14, kStaticEntries = 61;
constexpr const char* kStatuses[] = {"200", "204", "206", "304", "400", "404", "500"};

void put_integer(std::string& block, int prefix_bits, std::uint8_t flags, std::size_t value) {
  const std::size_t most = (std::size_t{1} << prefix_bits) - 1;
  if (value < most) {
    block += static_cast<char>(flags | value);
    return;
  }
  block += static_cast<char>(flags | most);
  for (value -= most; value >= 128; value >>= 7) block += static_cast<char>(value % 128 + 128);
  block += static_cast<char>(value);
}

void put_text(std::string& block, std::string_view text) {
  put_integer(block, 7, 0, text.size());
  block += text;
}

// A literal that enters no table; its name is the static table's `index`, or `name` where that is
// 0.
void put_literal(std::string& block, int index, std::string_view name, std::string_view value) {
  put_integer(block, 4, 0, static_cast<std::size_t>(index));
  if (index == 0) put_text(block, name);
  put_text(block, value);
}

class Reader {
 public:
  explicit Reader(std::string_view block) : left_(block) {}

  bool empty() const { return left_.empty(); }
  std::uint8_t peek() const { return static_cast<std::uint8_t>(left_.front()); }

  std::size_t integer(int prefix_bits) {
    const std::size_t most = (std::size_t{1} << prefix_bits) - 1;
    std::size_t value = next() & most;
    if (value < most) return value;
    for (int shift = 0; shift < 28; shift += 7) {
      const std::uint8_t byte = next();
      value += static_cast<std::size_t>(byte & 127) << shift;
      if (byte < 128) return value;
    }
    throw Error("the server sends a malformed header");
  }

  std::string text() {
    const bool huffman = !empty() && (peek() & 128) != 0;
    const std::size_t length = integer(7);
    if (huffman) throw Error("the server sends headers in a code that this client does not read");
    if (length > left_.size()) throw Error("the server sends a malformed header");
    std::string text(left_.substr(0, length));
    left_.remove_prefix(length);
    return text;
  }

 private:
  std::uint8_t next() {
    if (left_.empty()) throw Error("the server sends a malformed header");
    const auto byte = static_cast<std::uint8_t>(left_.front());
    left_.remove_prefix(1);
    return byte;
  }

  std::string_view left_;
};

Header entry(std::size_t index) {
  if (index == 0 || index > kStaticEntries) {
    throw Error("the server refers to a header that it has not sent");
  }
  if (index < kFirstStatus || index > kLastStatus) return {};
  return {":status", kStatuses[index - kFirstStatus]};
}

}  // namespace

std::string request_headers(std::string_view authority, std::string_view path) {
  std::string block;
  put_integer(block, 7, 128, kMethodPost);
  put_integer(block, 7, 128, kSchemeHttp);
  put_literal(block, kPath, {}, path);
  put_literal(block, kAuthority, {}, authority);
  put_literal(block, kContentType, {}, "application/grpc");
  put_literal(block, 0, "te", "trailers");
  return block;
}

std::vector<Header> read_headers(std::string_view block) {
  std::vector<Header> headers;
  Reader reader(block);
  while (!reader.empty()) {
    const std::uint8_t kind = reader.peek();
    if (kind >= 128) {
      headers.push_back(entry(reader.integer(7)));
    } else if (kind >= 32 && kind < 64) {
      reader.integer(5);  // a new size of the table
    } else {
      const std::size_t name = reader.integer(kind >= 64 ? 6 : 4);
      Header header = name > 0 ? Header{entry(name).name, {}} : Header{reader.text(), {}};
      header.value = reader.text();
      headers.push_back(std::move(header));
    }
  }
  return headers;
}

}  // namespace paella::triton
