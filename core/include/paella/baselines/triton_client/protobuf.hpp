#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "paella/error.hpp"

// The wire format of protocol buffers, as far as inference requests use it: numbers and bytes.
namespace paella::triton {

class ProtoWriter {
 public:
  ProtoWriter& number(int field, std::uint64_t value) {
    varint(static_cast<std::uint64_t>(field) << 3);
    varint(value);
    return *this;
  }
  // Text, bytes, or a message written by another writer.
  ProtoWriter& bytes(int field, std::string_view value) {
    bytes_follow(field, value.size());
    text_ += value;
    return *this;
  }
  // The beginning of a field whose bytes are sent behind this message's text.
  ProtoWriter& bytes_follow(int field, std::size_t count) {
    varint(static_cast<std::uint64_t>(field) << 3 | 2);
    varint(count);
    return *this;
  }
  const std::string& text() const { return text_; }

 private:
  void varint(std::uint64_t value) {
    for (; value >= 128; value >>= 7) text_ += static_cast<char>(value % 128 + 128);
    text_ += static_cast<char>(value);
  }
  std::string text_;
};

// Field by field; numbers that are no varints are passed over.
class ProtoReader {
 public:
  explicit ProtoReader(std::string_view message) : left_(message) {}

  bool next() {
    if (left_.empty()) return false;
    const std::uint64_t key = varint();
    field_ = static_cast<int>(key >> 3);
    number_ = 0;
    bytes_ = {};
    switch (key & 7) {
      case 0: number_ = varint(); break;
      case 1: bytes_ = take(8); break;
      case 2: bytes_ = take(varint()); break;
      case 5: bytes_ = take(4); break;
      default: throw Error("the server sends a malformed message");
    }
    return true;
  }
  int field() const { return field_; }
  std::uint64_t number() const { return number_; }
  std::string_view bytes() const { return bytes_; }

 private:
  std::uint64_t varint() {
    std::uint64_t value = 0;
    for (int shift = 0; shift < 64; shift += 7) {
      const auto byte = static_cast<std::uint8_t>(take(1).front());
      value |= static_cast<std::uint64_t>(byte & 127) << shift;
      if (byte < 128) return value;
    }
    throw Error("the server sends a malformed message");
  }
  std::string_view take(std::uint64_t count) {
    if (count > left_.size()) throw Error("the server sends a malformed message");
    const std::string_view taken = left_.substr(0, count);
    left_.remove_prefix(count);
    return taken;
  }
  std::string_view left_, bytes_;
  int field_ = 0;
  std::uint64_t number_ = 0;
};

}  // namespace paella::triton
