#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

// As much of HTTP/2's header compression (RFC 7541) as a client of one gRPC server on this machine
// needs. It asks for an empty dynamic table, so that every block stands for itself.
namespace paella::triton {

struct Header {
  std::string name, value;
};

// A request's headers for POST to `path`, as a block that can be sent any number of times.
std::string request_headers(std::string_view authority, std::string_view path);

// Names of the static table other than :status stay empty: nobody asks for them. Throws Error for
// what is malformed, refers to a dynamic table, or uses the Huffman code, which gRPC's servers do
// not.
std::vector<Header> read_headers(std::string_view block);

}  // namespace paella::triton
