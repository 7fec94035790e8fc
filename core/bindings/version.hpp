#pragma once

namespace paella::bindings {

// In a file of their own, which every change of the engine compiles again.
const char* engine_version();
const char* compiled_by();  // a digest of compiler and options
const char* git_revision();

}  // namespace paella::bindings
