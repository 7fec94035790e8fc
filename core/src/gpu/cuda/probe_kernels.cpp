#include "probe_kernels.hpp"

namespace paella::gpu::cuda {
namespace {

// PTX rather than a cubin: the driver compiles it for any GPU from sm_75 on.
constexpr const char* kPtx = R"(
.version 6.4
.target sm_75
.address_size 64

.visible .entry empty()
{
  ret;
}

.visible .entry spin(.param .u64 ns)
{
  .reg .pred %over;
  .reg .b64 %start, %now, %length;
  ld.param.u64 %length, [ns];
  mov.u64 %start, %globaltimer;
again:
  mov.u64 %now, %globaltimer;
  sub.u64 %now, %now, %start;
  setp.ge.u64 %over, %now, %length;
  @!%over bra again;
  ret;
}

.visible .entry flag(.param .u64 at, .param .u32 value)
{
  .reg .b32 %value;
  .reg .b64 %at;
  ld.param.u64 %at, [at];
  ld.param.u32 %value, [value];
  cvta.to.global.u64 %at, %at;
  st.release.sys.global.u32 [%at], %value;
  ret;
}

.visible .entry gate(.param .u64 at, .param .u32 value, .param .u64 limit_ns)
{
  .reg .pred %over;
  .reg .b32 %value, %word;
  .reg .b64 %at, %start, %now, %limit;
  ld.param.u64 %at, [at];
  ld.param.u32 %value, [value];
  ld.param.u64 %limit, [limit_ns];
  cvta.to.global.u64 %at, %at;
  mov.u64 %start, %globaltimer;
again:
  ld.relaxed.sys.global.u32 %word, [%at];
  setp.eq.u32 %over, %word, %value;
  @%over bra open;
  mov.u64 %now, %globaltimer;
  sub.u64 %now, %now, %start;
  setp.ge.u64 %over, %now, %limit;
  @!%over bra again;
open:
  ret;
}
)";

OwnedModule load() {
  Module module = nullptr;
  driver().check(driver().module_load(&module, kPtx), "compiling the probes' kernels");
  return OwnedModule(module);
}

}  // namespace

ProbeKernels::ProbeKernels()
    : module_(load()),
      empty_(function("empty")),
      spin_(function("spin")),
      flag_(function("flag")),
      gate_(function("gate")) {}

Function ProbeKernels::function(const char* name) const {
  Function found = nullptr;
  driver().check(driver().module_function(&found, module_.get(), name), "finding a probe's kernel");
  return found;
}

void ProbeKernels::launch(Function function, Stream stream, void** parameters) const {
  driver().check(driver().launch(function, 1, 1, 1, 1, 1, 1, 0, stream, parameters, nullptr),
                 "launching a probe's kernel");
}

void ProbeKernels::spin(Stream stream, std::uint64_t ns) const {
  void* parameters[] = {&ns};
  launch(spin_, stream, parameters);
}

void ProbeKernels::flag(Stream stream, Pointer at, std::uint32_t value) const {
  void* parameters[] = {&at, &value};
  launch(flag_, stream, parameters);
}

void ProbeKernels::gate(Stream stream, Pointer at, std::uint32_t value) const {
  std::uint64_t limit_ns = static_cast<std::uint64_t>(kGateLimitUs * 1000);
  void* parameters[] = {&at, &value, &limit_ns};
  launch(gate_, stream, parameters);
}

}  // namespace paella::gpu::cuda
