#include "paella/sched/extra_kernels.hpp"

namespace paella::sched {
namespace {

// The paper's: one pool for the whole GPU, without SM boundaries or allocation granularity. Extra
// kernels may draw it below zero.
class ResourcesAdmission : public ExtraKernels {
 public:
  ResourcesAdmission(std::int64_t extra_kernels, const plan::SmLimits& sm)
      : ExtraKernels(extra_kernels),
        free_{std::int64_t{sm.threads} * sm.count, std::int64_t{sm.regs} * sm.count,
              std::int64_t{sm.smem_bytes} * sm.count, std::int64_t{sm.blocks} * sm.count} {}

 protected:
  bool fits(const Demand& demand) const override {
    const Pool need = pool(demand.shape, demand.blocks);
    return need.threads <= free_.threads && need.regs <= free_.regs && need.smem <= free_.smem &&
           need.blocks <= free_.blocks;
  }
  void take(std::int32_t, const Demand& demand) override { add(demand.shape, -demand.blocks); }
  void give_back(std::int32_t, const Demand& demand, std::int64_t blocks) override {
    add(demand.shape, blocks);
  }

 private:
  struct Pool {
    std::int64_t threads, regs, smem, blocks;
  };

  static Pool pool(const plan::BlockShape& shape, std::int64_t blocks) {
    return {blocks * shape.threads, blocks * shape.threads * shape.regs_per_thread,
            blocks * shape.smem_bytes, blocks};
  }
  void add(const plan::BlockShape& shape, std::int64_t blocks) {
    const Pool p = pool(shape, blocks);
    free_.threads += p.threads;
    free_.regs += p.regs;
    free_.smem += p.smem;
    free_.blocks += p.blocks;
  }

  Pool free_;
};

}  // namespace

std::unique_ptr<Admission> make_resources_admission(std::int64_t extra_kernels,
                                                    const plan::SmLimits& sm) {
  return std::make_unique<ResourcesAdmission>(extra_kernels, sm);
}

}  // namespace paella::sched
