#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "paella/gpu/sim/winner_tree.hpp"
#include "paella/gpu/sim/kernel_cost.hpp"
#include "paella/record/timeline.hpp"

namespace paella::gpu::sim {

// The SMs of a GPU and the blocks resident on them.
//
// SMs in the same state are kept once, as a class with a count; a class splits when a kernel's
// last blocks reach only some of its SMs, and classes that run empty merge again. Blocks of one
// kernel that start together on an SM are one group, and so are those that start within a small
// part of their length of each other: they end together, at their mean end. All blocks of an SM
// advance at one common rate, 1 / max(1, load), so each class needs only its own virtual time to
// know which group ends next.
//
// Within one instant the order is: finish(), then place() as often as wanted, then settle().
class SmArray {
 public:
  struct Finished {
    std::int32_t run;
    std::int64_t blocks;
  };
  enum class Where { kEverywhere, kWhereBlocksFinished };

  // `timeline` may be null; else each finished group is written to it, SM by SM.
  SmArray(const plan::SmLimits& sm, record::Timeline* timeline);

  TimeNs next_ns() const { return ends_.top_time(); }

  // Ends all groups that are due at `now` and appends them to `finished`.
  void finish(TimeNs now, std::vector<Finished>& finished);

  // Places up to `blocks` blocks of `run`, each on the SM with room for most of them (rule 6), and
  // returns how many found room. kWhereBlocksFinished is enough if nothing fitted before.
  // Each takes `work_ns` at full rate. `cost` must stay where it is until the blocks have ended.
  std::int64_t place(std::int32_t run, const KernelCost& cost, double work_ns, std::int64_t blocks,
                     TimeNs now, Where where);

  // Recomputes the rate and next end of every SM touched at `now`.
  void settle(TimeNs now);

  struct Usage {
    std::int32_t sms;
    std::int32_t warps, regs, smem, blocks;  // in use, in allocation units
  };
  std::vector<Usage> usage() const;

  std::int64_t groups_placed() const { return groups_placed_; }

  // The timeline's clock minus that of the calls above, which stands still between time slices.
  void set_idle(TimeNs idle_ns) { idle_ns_ = idle_ns; }

 private:
  static constexpr int kMaxGroups = 32;  // no GPU has more block slots on an SM

  struct Group {
    double end;  // in the class's virtual time
    std::int32_t run;
    std::int32_t blocks;  // on each SM of the class
  };
  using Groups = std::array<Group, kMaxGroups>;  // latest end first
  struct Start {  // of some blocks of a group, on the timeline's clock
    TimeNs at_ns;
    std::int32_t blocks;
  };
  struct Run {
    const KernelCost* cost;
    double work_ns;
  };
  struct alignas(64) Class {
    plan::SmUnits free;  // of each SM
    std::int32_t sms = 0;
    std::int16_t groups = 0;
    bool touched = false;
    double load = 0;
    double rate = 1;
    double virtual_ns = 0;
    TimeNs at_ns = 0;
  };

  std::int32_t room(const Class& k, const KernelCost& cost) const;
  void touch(std::int32_t c, TimeNs now);
  std::int32_t split(std::int32_t c, std::int32_t sms);
  void copy(std::int32_t from, std::int32_t to);
  void add(std::int32_t c, std::int32_t run, std::int32_t blocks);
  void merge_empty();

  plan::SmUnits capacity_;
  record::Timeline* timeline_;
  // By class; only the first active_ are in use.
  std::vector<Class> classes_;
  std::vector<Groups> groups_;
  std::vector<Run> runs_;
  std::int32_t active_ = 1;
  // Kept only for a timeline: the SMs of a class, and when the blocks of its groups started.
  std::vector<std::vector<std::int32_t>> ids_;
  std::vector<std::array<std::vector<Start>, kMaxGroups>> starts_;
  TimeNs idle_ns_ = 0;
  std::vector<std::int32_t> room_;
  std::vector<std::int32_t> touched_;
  std::vector<std::int32_t> emptied_;
  WinnerTree ends_;
  std::int64_t groups_placed_ = 0;
};

}  // namespace paella::gpu::sim
