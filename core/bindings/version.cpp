#include "version.hpp"

namespace paella::bindings {

const char* engine_version() { return PAELLA_ENGINE_VERSION; }
const char* compiled_by() { return PAELLA_COMPILED_BY; }
const char* git_revision() { return PAELLA_GIT_REVISION; }

}  // namespace paella::bindings
