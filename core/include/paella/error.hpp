#pragma once

#include <stdexcept>
#include <string>

namespace paella {

// What went wrong, in one sentence that a user can act on.
class Error : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

}  // namespace paella
