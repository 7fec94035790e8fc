#pragma once

#include <string>

#include "paella/client.hpp"

namespace paella::bindings {

// How a client waits, by its name in Python. Throws Error for another one.
Waiting waiting(const std::string& name);

}  // namespace paella::bindings
