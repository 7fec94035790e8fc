#include "bindings.hpp"

namespace paella::bindings {

void bind_engine(pybind11::module_&) {}

}  // namespace paella::bindings
